(* T7: a DAR policy that meets the conditions of its multipliers is the best policy in both balls. T12: steps to the
   best policy in both balls never lose reward, and end. *)
From Coq Require Import Reals Lra.
From DAR Require Export t6.
Open Scope R_scope.

(* What a policy on S has less than the DAR policy: what it leaves of the two budgets, priced, and its distance. *)
Theorem T7_gap : forall n (A pi_0 pi_t best pi : arm n -> R) e_0 e_t l_0 l_t,
  policy pi_0 -> policy pi_t ->
  multipliers pi_0 pi_t e_0 e_t A l_0 l_t best -> 0 < l_0 + l_t ->
  policy pi -> pi lives_on pi_0 -> pi lives_on pi_t ->
  E best A - E pi A =
  l_0 * (e_0 - KL pi pi_0) + l_t * (e_t - KL pi pi_t) + (l_0 + l_t) * KL pi best.
Proof.
  intros n A pi_0 pi_t best pi e_0 e_t l_0 l_t P0 Pt Hm Hl P H0 Ht.
  destruct Hm as (L0 & Lt & (Pb & [Hb0 _] & [Hbt _]) & S0 & St & F & _).
  specialize (F Hl). set (alpha := l_0 / (l_0 + l_t)) in *.
  assert (Lagrangian : forall p, policy p -> p lives_on pi_0 -> p lives_on pi_t ->
    E p A - l_0 * KL p pi_0 - l_t * KL p pi_t =
    (l_0 + l_t) * ln (M A (restrict pi_0 pi_t) (restrict pi_t pi_0) alpha (l_0 + l_t)) - (l_0 + l_t) * KL p best).
  { intros p Pp Hp0 Hpt. rewrite (KL_ext p p best _ (fun _ => eq_refl) F).
    unfold pi_star_S. rewrite <- J_is by auto using restrict_nonneg, lives_on_S.
    unfold J, dual_KL. rewrite !KL_restrict by trivial. unfold alpha. field. lra. }
  pose proof (Lagrangian pi P H0 Ht). pose proof (Lagrangian best Pb Hb0 Hbt) as Lb.
  rewrite (proj2 (KL_zero n best best Pb Pb (fun _ e => e))) in Lb by trivial. lra.
Qed.

Theorem T7 : forall n (A pi_0 pi_t best pi : arm n -> R) e_0 e_t l_0 l_t,
  policy pi_0 -> policy pi_t ->
  multipliers pi_0 pi_t e_0 e_t A l_0 l_t best -> 0 < l_0 + l_t ->
  in_region pi_0 pi_t e_0 e_t pi ->
  E pi A <= E best A /\ (E pi A = E best A -> forall y, pi y = best y).
Proof.
  intros n A pi_0 pi_t best pi e_0 e_t l_0 l_t P0 Pt Hm Hl (P & [H0 K0] & [Ht Kt]).
  pose proof (T7_gap n A pi_0 pi_t best pi e_0 e_t l_0 l_t P0 Pt Hm Hl P H0 Ht) as G.
  destruct Hm as (L0 & Lt & (Pb & _) & _ & _ & F & _). specialize (F Hl).
  assert (Hb : pi lives_on best).
  { intros y e. rewrite F in e. apply pi_star_zero in e; [ | now apply (in_S pi) ].
    apply mix_S_zero in e as [e | e]; auto. }
  pose proof (Rmult_le_pos l_0 (e_0 - KL pi pi_0)). pose proof (Rmult_le_pos l_t (e_t - KL pi pi_t)).
  pose proof (KL_nonneg n pi best P Pb Hb) as K. pose proof (Rmult_le_pos (l_0 + l_t) _ ltac:(lra) K).
  split; [ lra | ]. intro e. apply KL_zero; trivial. apply (Rmult_eq_reg_l (l_0 + l_t)); lra.
Qed.

(* With both multipliers 0 the best policy of all lies inside: then too the conditions are enough. *)
Theorem T7_conditions : forall n (A pi_0 pi_t best : arm n -> R) e_0 e_t l_0 l_t,
  policy pi_0 -> policy pi_t -> multipliers pi_0 pi_t e_0 e_t A l_0 l_t best ->
  best_in_region pi_0 pi_t e_0 e_t A best.
Proof.
  intros n A pi_0 pi_t best e_0 e_t l_0 l_t P0 Pt Hm. pose proof Hm as (L0 & Lt & Rb & _ & _ & _ & F).
  split; trivial. intros pi R. destruct (Req_dec (l_0 + l_t) 0) as [e | N].
  - destruct R as (P & [H0 _] & [Ht _]). auto.
  - apply (T7 n A pi_0 pi_t best pi e_0 e_t l_0 l_t); trivial. lra.
Qed.

(* Every DAR policy is the best policy of some pair of balls: of those on whose surface it lies. *)
Theorem T7_frontier : forall n (A pi_0 pi_t : arm n -> R) alpha beta y,
  let best := pi_star_S pi_0 pi_t A alpha beta in
  policy pi_0 -> policy pi_t -> 0 < pi_0 y -> 0 < pi_t y -> 0 <= alpha <= 1 -> 0 < beta ->
  best_in_region pi_0 pi_t (KL best pi_0) (KL best pi_t) A best.
Proof.
  intros n A pi_0 pi_t alpha beta y best P0 Pt H0 Ht Ha Hb. subst best.
  assert (HC : 0 < C_S pi_0 pi_t alpha).
  { apply C_pos with y; unfold restrict; [ destruct (Req_EM_T (pi_t y) 0) | destruct (Req_EM_T (pi_0 y) 0) ]; lra. }
  assert (Zs : forall z, pi_star_S pi_0 pi_t A alpha beta z = 0 <-> pi_0 z = 0 \/ pi_t z = 0)
    by (intro; unfold pi_star_S; rewrite pi_star_zero by trivial; apply mix_S_zero).
  apply T7_conditions with (l_0 := beta * alpha) (l_t := beta * (1 - alpha)); trivial.
  unfold multipliers.
  assert (Pb : policy (pi_star_S pi_0 pi_t A alpha beta)) by now apply pi_star_policy.
  replace (beta * alpha + beta * (1 - alpha)) with beta by lra.
  replace (beta * alpha / beta) with alpha by (field; lra).
  split; [ apply Rmult_le_pos; lra | ]. split; [ apply Rmult_le_pos; lra | ].
  split; [ | split; [ lra | split; [ lra | split; [ easy | lra ] ] ] ].
  split; trivial. repeat split; try (intros z e; apply Zs; tauto); apply Rle_refl.
Qed.

(* The ball that belongs to DAR: the policies whose dual KL is within the weighted budget. Its
   radius contains log C. *)
Theorem T7_ball : forall n (pi pi_0 pi_t : arm n -> R) e_0 e_t alpha,
  policy pi -> policy pi_0 -> policy pi_t -> pi lives_on pi_0 -> pi lives_on pi_t ->
  (alpha * KL pi pi_0 + (1 - alpha) * KL pi pi_t <= alpha * e_0 + (1 - alpha) * e_t <->
   KL pi (pi_ref_S pi_0 pi_t alpha) <=
   alpha * e_0 + (1 - alpha) * e_t + ln (C_S pi_0 pi_t alpha)).
Proof.
  intros n pi pi_0 pi_t e_0 e_t alpha P P0 Pt H0 Ht.
  pose proof (T6_identity n pi pi_0 pi_t alpha P P0 Pt H0 Ht). split; lra.
Qed.

(* T12: the policy of the last step keeps both budgets of the next. *)
Lemma stays {n} (pi_0 pi_t next : arm n -> R) e_0 e_t : 0 <= e_t ->
  in_region pi_0 pi_t e_0 e_t next -> in_region pi_0 next e_0 e_t next.
Proof.
  intros He (P & H0 & _). split; trivial. split; trivial. split; [ easy | ].
  now rewrite (proj2 (KL_zero n next next P P (fun _ e => e))).
Qed.

Theorem T12 : forall n (A pi_0 : arm n -> R) (path : nat -> arm n -> R) e_0 e_t,
  policy pi_0 -> 0 <= e_0 -> 0 <= e_t -> path O = pi_0 ->
  (forall t, best_in_region pi_0 (path t) e_0 e_t A (path (S t))) ->
  forall t, in_region pi_0 (path t) e_0 e_t (path t) /\ E (path t) A <= E (path (S t)) A.
Proof.
  intros n A pi_0 path e_0 e_t P0 H0 Ht start best.
  assert (inside : forall t, in_region pi_0 (path t) e_0 e_t (path t)).
  { destruct t as [ | t]; [ rewrite start | destruct (best t) as [R _]; now apply stays in R ].
    apply (stays pi_0 pi_0); trivial.
    pose proof (proj2 (KL_zero n pi_0 pi_0 P0 P0 (fun _ e => e)) (fun _ => eq_refl)).
    split; trivial. split; split; (easy || lra). }
  intro t. split; trivial. destruct (best t) as [_ B]. now apply B.
Qed.

(* More than e_0 / e_t steps are enough: the path is then as good as any policy in the ball around pi_0. *)
Theorem T12_end : forall n (A pi_0 q : arm n -> R) (path : nat -> arm n -> R)
  l_0 l_t e_0 e_t,
  policy pi_0 -> 0 <= e_0 -> 0 <= e_t -> path O = pi_0 ->
  (forall t, multipliers pi_0 (path t) e_0 e_t A (l_0 t) (l_t t) (path (S t))) ->
  policy q -> q lives_on pi_0 -> KL q pi_0 <= e_0 ->
  forall t, e_0 < INR t * e_t -> E q A <= E (path t) A.
Proof.
  intros n A pi_0 q path l_0 l_t e_0 e_t P0 He0 Het start Hm Pq Hq Kq.
  assert (Pp : forall t, policy (path t)).
  { destruct t; [ now rewrite start | ]. now destruct (Hm t) as (_ & _ & (P & _) & _). }
  assert (rises : forall t, E (path t) A <= E (path (S t)) A).
  { intro t. apply (T12 n A pi_0 path e_0 e_t); trivial. intro s. now apply T7_conditions with (l_0 s) (l_t s). }
  assert (nears : forall t, E q A <= E (path t) A \/ (q lives_on path t /\ KL q (path t) <= e_0 - INR t * e_t)).
  { induction t as [ | t [IH | [IHs IH]]].
    - right. rewrite start. simpl. split; trivial. lra.
    - left. pose proof (rises t). lra.
    - destruct (Rle_lt_dec (E q A) (E (path (S t)) A)) as [ | lt]; [ now left | right ].
      pose proof (Hm t) as (L0 & Lt & _ & _ & _ & F & Z).
      destruct (Req_dec (l_0 t + l_t t) 0) as [e | N]; [ specialize (Z e q Pq Hq IHs); lra | ].
      specialize (F ltac:(lra)).
      pose proof (T7_gap n A pi_0 (path t) (path (S t)) q e_0 e_t (l_0 t) (l_t t)
        P0 (Pp t) (Hm t) ltac:(lra) Pq Hq IHs) as G.
      assert (Hn : q lives_on path (S t)).
      { intros y e. rewrite F in e. apply pi_star_zero in e; [ | now apply (in_S q) ].
        apply mix_S_zero in e as [e | e]; auto. }
      split; trivial. rewrite S_INR.
      pose proof (KL_nonneg n q (path (S t)) Pq (Pp (S t)) Hn) as K.
      pose proof (Rmult_le_pos (l_0 t) (e_0 - KL q pi_0) L0 ltac:(lra)).
      pose proof (Rmult_le_pos (l_0 t) _ L0 K).
      assert (0 < l_t t) by (destruct Lt as [ | e]; trivial; rewrite <- e in G; lra).
      apply Rle_trans with (KL q (path t) - e_t); [ | lra ].
      apply (Rmult_le_reg_l (l_t t)); trivial. lra. }
  intros t Ht. destruct (nears t) as [ | [Hs K]]; trivial.
  pose proof (KL_nonneg n q (path t) Pq (Pp t) Hs). lra.
Qed.
