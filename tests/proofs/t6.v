(* T6: when the two balls meet. A negative margin proves that nothing is inside; a margin of at least 0 everywhere
   gives a policy inside; margin 0 leaves one policy. *)
From Coq Require Import Reals Lra.
From DAR Require Export t2.
Open Scope R_scope.

Lemma restrict_nonneg {n} (p q : arm n -> R) y : policy p -> 0 <= restrict p q y.
Proof. intros [Hp _]. unfold restrict. destruct (Req_EM_T (q y) 0); auto. lra. Qed.

Lemma restrict_zero {n} (p q : arm n -> R) y : restrict p q y = 0 <-> p y = 0 \/ q y = 0.
Proof. unfold restrict. destruct (Req_EM_T (q y) 0); tauto. Qed.

(* On policies that live on S, the anchors may be cut to S. *)
Lemma KL_restrict {n} (pi p q : arm n -> R) : pi lives_on q -> KL pi (restrict p q) = KL pi p.
Proof.
  intro H. apply sum_ext. intro y. unfold restrict. destruct (Req_EM_T (q y) 0) as [e | ]; trivial.
  rewrite (H y e). lra.
Qed.

(* S is where the cut mixture is positive, at every alpha. *)
Lemma mix_S_zero {n} (pi_0 pi_t : arm n -> R) alpha y :
  mix (restrict pi_0 pi_t) (restrict pi_t pi_0) alpha y = 0 <-> pi_0 y = 0 \/ pi_t y = 0.
Proof.
  rewrite mix_zero, !restrict_zero. assert (alpha <> 0 \/ 1 - alpha <> 0) by (destruct (Req_dec alpha 0); lra). tauto.
Qed.

Lemma lives_on_S {n} (pi pi_0 pi_t : arm n -> R) alpha : pi lives_on pi_0 -> pi lives_on pi_t ->
  pi lives_on mix (restrict pi_0 pi_t) (restrict pi_t pi_0) alpha.
Proof. intros H0 Ht y e. apply mix_S_zero in e as [e | e]; auto. Qed.

(* Equation (1) of the page: T1 on S, at the ends too. *)
Theorem T6_identity : forall n (pi pi_0 pi_t : arm n -> R) alpha,
  policy pi -> policy pi_0 -> policy pi_t -> pi lives_on pi_0 -> pi lives_on pi_t ->
  alpha * KL pi pi_0 + (1 - alpha) * KL pi pi_t =
  KL pi (pi_ref_S pi_0 pi_t alpha) - ln (C_S pi_0 pi_t alpha).
Proof.
  intros n pi pi_0 pi_t alpha P P0 Pt H0 Ht. unfold pi_ref_S, C_S.
  rewrite <- dual_KL_is by auto using restrict_nonneg, lives_on_S. unfold dual_KL. now rewrite !KL_restrict.
Qed.

(* For 0 < alpha < 1 the sum over S is the C of T1. *)
Theorem C_S_is_C : forall n (pi_0 pi_t : arm n -> R) alpha,
  0 < alpha < 1 -> C_S pi_0 pi_t alpha = C pi_0 pi_t alpha.
Proof.
  intros n pi_0 pi_t alpha Ha. apply sum_ext. intro y.
  destruct (Req_dec (mix pi_0 pi_t alpha y) 0) as [e | N].
  - rewrite e. apply mix_S_zero. apply mix_zero in e. tauto.
  - rewrite mix_zero in N. unfold mix, restrict. destruct (Req_EM_T (pi_0 y) 0), (Req_EM_T (pi_t y) 0); trivial;
      exfalso; apply N; [ left | left | right ]; split; trivial; lra.
Qed.

Lemma in_S {n} (pi pi_0 pi_t : arm n -> R) alpha : policy pi -> pi lives_on pi_0 -> pi lives_on pi_t ->
  0 < C_S pi_0 pi_t alpha /\ policy (pi_ref_S pi_0 pi_t alpha) /\ pi lives_on pi_ref_S pi_0 pi_t alpha.
Proof.
  intros P H0 Ht. assert (HC : 0 < C_S pi_0 pi_t alpha).
  { apply (lives_on_sum pi); auto using mix_nonneg, lives_on_S. }
  split; [ trivial | split; [ now apply pi_ref_policy | ] ].
  intros y e. unfold pi_ref_S, pi_ref in e. rewrite normalise_zero in e by trivial.
  apply mix_S_zero in e as [e | e]; auto.
Qed.

(* A policy in both balls: no alpha can certify that there is none. *)
Theorem T6_sound : forall n (pi pi_0 pi_t : arm n -> R) e_0 e_t alpha,
  policy pi_0 -> policy pi_t -> in_region pi_0 pi_t e_0 e_t pi -> 0 <= alpha <= 1 ->
  alpha * e_0 + (1 - alpha) * e_t >= - ln (C_S pi_0 pi_t alpha).
Proof.
  intros n pi pi_0 pi_t e_0 e_t alpha P0 Pt (P & [H0 K0] & [Ht Kt]) Ha.
  destruct (in_S pi pi_0 pi_t alpha P H0 Ht) as (_ & Pr & Hr).
  pose proof (T6_identity n pi pi_0 pi_t alpha P P0 Pt H0 Ht). pose proof (KL_nonneg n _ _ P Pr Hr).
  apply (Rmult_le_compat_l alpha) in K0; [ | lra ]. apply (Rmult_le_compat_l (1 - alpha)) in Kt; [ | lra ]. lra.
Qed.

Theorem T6_certificate : forall n (pi_0 pi_t : arm n -> R) e_0 e_t alpha,
  policy pi_0 -> policy pi_t -> 0 <= alpha <= 1 -> margin pi_0 pi_t e_0 e_t alpha < 0 ->
  forall pi, ~ in_region pi_0 pi_t e_0 e_t pi.
Proof.
  intros n pi_0 pi_t e_0 e_t alpha P0 Pt Ha Hm pi R.
  pose proof (T6_sound n pi pi_0 pi_t e_0 e_t alpha P0 Pt R Ha). unfold margin in Hm. lra.
Qed.

(* Where the margin is 0, one policy at most is inside: the interpolated one. *)
Theorem T6_touching : forall n (pi pi_0 pi_t : arm n -> R) e_0 e_t alpha,
  policy pi_0 -> policy pi_t -> 0 <= alpha <= 1 -> margin pi_0 pi_t e_0 e_t alpha = 0 ->
  in_region pi_0 pi_t e_0 e_t pi -> forall y, pi y = pi_ref_S pi_0 pi_t alpha y.
Proof.
  intros n pi pi_0 pi_t e_0 e_t alpha P0 Pt Ha Hm (P & [H0 K0] & [Ht Kt]).
  destruct (in_S pi pi_0 pi_t alpha P H0 Ht) as (_ & Pr & Hr).
  pose proof (T6_identity n pi pi_0 pi_t alpha P P0 Pt H0 Ht). pose proof (KL_nonneg n _ _ P Pr Hr).
  apply (Rmult_le_compat_l alpha) in K0; [ | lra ]. apply (Rmult_le_compat_l (1 - alpha)) in Kt; [ | lra ].
  unfold margin in Hm. apply KL_zero; trivial. lra.
Qed.

(* The other direction. Continuity in alpha is all the analysis it needs. *)
Lemma continuity_mix_S {n} (pi_0 pi_t : arm n -> R) y :
  continuity (fun a => mix (restrict pi_0 pi_t) (restrict pi_t pi_0) a y).
Proof.
  destruct (Req_dec (mix (restrict pi_0 pi_t) (restrict pi_t pi_0) 0 y) 0) as [e | N].
  - apply continuity_ext with (fun _ => 0); [ | apply continuous_constant ].
    intro a. symmetry. apply mix_S_zero. now apply mix_S_zero in e.
  - set (c := ln (restrict pi_0 pi_t y)). set (d := ln (restrict pi_t pi_0 y)).
    apply continuity_ext with (fun a => exp (a * c + (1 - a) * d)).
    + intro a. unfold c, d. assert (Na : mix (restrict pi_0 pi_t) (restrict pi_t pi_0) a y <> 0).
      { intro e. apply N, mix_S_zero. now apply mix_S_zero in e. }
      rewrite <- ln_mix by trivial. apply exp_ln, pos; trivial. apply mix_nonneg.
    + apply (continuity_comp (fun a => a * c + (1 - a) * d) exp); apply derivable_continuous;
        [ | apply derivable_exp ].
      apply (derivable_plus (fun a => a * c) (fun a => (1 - a) * d)); apply (derivable_mult _ (fun _ => _));
        try apply derivable_const; [ apply derivable_id | ].
      apply (derivable_minus (fun _ => 1) id); [ apply derivable_const | apply derivable_id ].
Qed.

(* If k + u b - u a has one sign for all b on one side of a, so has k. *)
Lemma limit_sign : forall (u : R -> R) a c k, continuity u -> a <> c ->
  (forall s, 0 < s <= 1 -> 0 <= k + (u (a + s * (c - a)) - u a)) -> 0 <= k.
Proof.
  intros u a c k Hu N H. destruct (Rle_lt_dec 0 k) as [ | Hk]; trivial.
  destruct (Hu a (- k) ltac:(lra)) as [delta [Hd D]].
  assert (0 < Rabs (c - a)) by (apply Rabs_pos_lt; lra).
  set (s := Rmin 1 (delta / (2 * Rabs (c - a)))).
  assert (0 < delta / (2 * Rabs (c - a))) by (apply Rdiv_lt_0_compat; lra).
  assert (0 < s <= 1) as Hs by (unfold s; split; [ apply Rmin_glb_lt; lra | apply Rmin_l ]).
  assert (Hs2 : s * Rabs (c - a) <= delta / 2).
  { apply Rle_trans with (delta / (2 * Rabs (c - a)) * Rabs (c - a)).
    - apply Rmult_le_compat_r; [ lra | apply Rmin_r ].
    - right. field. lra. }
  assert (F : Rabs (u (a + s * (c - a)) - u a) < - k).
  { apply D. split; [ split; [ exact I | ] | ].
    - intro e. assert (s * (c - a) = 0) as z by lra. apply Rmult_integral in z. lra.
    - simpl. unfold R_dist. replace (a + s * (c - a) - a) with (s * (c - a)) by lra.
      rewrite Rabs_mult, (Rabs_pos_eq s) by lra. lra. }
  apply Rabs_def2 in F. specialize (H s Hs). lra.
Qed.

Theorem T6_complete : forall n (pi_0 pi_t : arm n -> R) e_0 e_t y,
  policy pi_0 -> policy pi_t -> 0 < pi_0 y -> 0 < pi_t y ->
  (forall alpha, 0 <= alpha <= 1 -> 0 <= margin pi_0 pi_t e_0 e_t alpha) ->
  exists alpha, 0 <= alpha <= 1 /\ in_region pi_0 pi_t e_0 e_t (pi_ref_S pi_0 pi_t alpha).
Proof.
  intros n pi_0 pi_t e_0 e_t y P0 Pt H0 Ht Hm.
  set (m := fun a => mix (restrict pi_0 pi_t) (restrict pi_t pi_0) a).
  assert (HC : forall a, 0 < C_S pi_0 pi_t a).
  { intro a. apply C_pos with y; unfold restrict;
      [ destruct (Req_EM_T (pi_t y) 0) | destruct (Req_EM_T (pi_0 y) 0) ]; lra. }
  set (q := pi_ref_S pi_0 pi_t).
  assert (Pq : forall a, policy (q a)) by (intro; apply pi_ref_policy, HC).
  assert (Zq : forall a z, q a z = 0 <-> pi_0 z = 0 \/ pi_t z = 0).
  { intros a z. unfold q, pi_ref_S, pi_ref. rewrite normalise_zero by apply HC. apply mix_S_zero. }
  assert (Qq : forall a b, q a lives_on q b) by (intros a b z e; apply Zq; now apply Zq in e).
  assert (Sq : forall a, q a lives_on pi_0 /\ q a lives_on pi_t) by (intro; split; intros z e; apply Zq; tauto).
  assert (Cm : continuity (C_S pi_0 pi_t)) by (apply continuity_sum; intro; apply continuity_mix_S).
  (* The alpha with the smallest margin. *)
  destruct (continuity_ab_min (margin pi_0 pi_t e_0 e_t) 0 1) as (a & Ha & Ia); [ lra | | ].
  { intros a _. unfold margin.
    apply (continuity_pt_plus (fun a => a * e_0 + (1 - a) * e_t) (fun a => ln (C_S pi_0 pi_t a))).
    - apply (continuity_plus (fun a => a * e_0) (fun a => (1 - a) * e_t)); apply (continuity_scale);
        apply derivable_continuous; [ apply derivable_id | ].
      apply (derivable_minus (fun _ => 1) id); [ apply derivable_const | apply derivable_id ].
    - apply (continuity_pt_comp (C_S pi_0 pi_t) ln); [ apply Cm | ].
      apply derivable_continuous_pt. exists (/ C_S pi_0 pi_t a). now apply derivable_pt_lim_ln. }
  exists a. split; trivial. fold (q a).
  destruct (Sq a) as [Q0 Qt]. set (s_0 := e_0 - KL (q a) pi_0). set (s_t := e_t - KL (q a) pi_t).
  (* What q a leaves of its budgets, and what another alpha would have to pay. *)
  assert (Fb : forall b, margin pi_0 pi_t e_0 e_t b = b * s_0 + (1 - b) * s_t + KL (q a) (q b)).
  { intro b. pose proof (T6_identity n (q a) pi_0 pi_t b (Pq a) P0 Pt Q0 Qt) as T. unfold margin, s_0, s_t.
    fold (q b) in T. lra. }
  assert (Fa : margin pi_0 pi_t e_0 e_t a = a * s_0 + (1 - a) * s_t).
  { rewrite Fb, (proj2 (KL_zero n _ _ (Pq a) (Pq a) (fun _ e => e))) by trivial. lra. }
  (* KL (q a) (q b) is of second order in b - a. *)
  set (u := fun b => E (q b) (fun z => ln (pi_0 z) - ln (pi_t z))).
  assert (Cu : continuity u).
  { apply continuity_sum. intro z. apply continuity_scale. unfold q, pi_ref_S, pi_ref, normalise.
    apply (continuity_div (fun b => m b z) (C_S pi_0 pi_t)); [ apply continuity_mix_S | trivial | ].
    intro b. specialize (HC b). lra. }
  assert (second : forall b, KL (q a) (q b) <= (b - a) * (u b - u a)).
  { intro b. pose proof (KL_nonneg n (q b) (q a) (Pq b) (Pq a) (Qq b a)) as K.
    enough (KL (q a) (q b) + KL (q b) (q a) = (b - a) * (u b - u a)) by lra.
    rewrite <- (Rmult_1_l (KL (q a) _)), <- (Rmult_1_l (KL (q b) _)).
    rewrite !KL_split by (apply Pq || (intros _; apply Qq)).
    (* ln q b - ln q a = (b - a) (ln pi_0 - ln pi_t) - ln C b + ln C a *)
    assert (D : forall z, q a z <> 0 -> ln (q b z) - ln (q a z) =
      (b - a) * (ln (pi_0 z) - ln (pi_t z)) + (ln (C_S pi_0 pi_t a) - ln (C_S pi_0 pi_t b))).
    { intros z N. assert (N0 : pi_0 z <> 0 /\ pi_t z <> 0) by (split; intro; apply N, Zq; tauto).
      assert (L : forall d, ln (q d z) = d * ln (pi_0 z) + (1 - d) * ln (pi_t z) - ln (C_S pi_0 pi_t d)).
      { intro d. unfold q, pi_ref_S. rewrite ln_pi_ref by (rewrite mix_S_zero; tauto).
        unfold restrict. destruct (Req_EM_T (pi_t z) 0), (Req_EM_T (pi_0 z) 0); tauto. }
      rewrite !L. lra. }
    set (k := ln (C_S pi_0 pi_t a) - ln (C_S pi_0 pi_t b)) in *.
    transitivity ((b - a) * (u b - u a) + k * (sum (q b) - sum (q a)));
      [ | rewrite (proj2 (Pq a)), (proj2 (Pq b)); lra ].
    unfold u, E. rewrite <- !sum_sub, <- !sum_scale, <- !sum_add. apply sum_ext. intro z.
    destruct (Req_dec (q a z) 0) as [e | N].
    - pose proof (Qq b a z e) as e'. rewrite e, e'. lra.
    - specialize (D z N). replace (ln (q a z) - ln (q b z)) with (- (ln (q b z) - ln (q a z))) by lra.
      rewrite D. lra. }
  assert (side : forall c, 0 <= c <= 1 -> a <> c -> 0 <= (c - a) * (s_0 - s_t)).
  { intros c Hc N. apply (limit_sign (fun b => (c - a) * u b) a c); trivial.
    - apply (continuity_mult (fun _ => c - a) u); trivial. apply continuous_constant.
    - intros s Hs. set (b := a + s * (c - a)).
      assert (Hb : 0 <= b <= 1).
      { unfold b. pose proof (Rmult_le_pos s c). pose proof (Rmult_le_pos (1 - s) a).
        pose proof (Rmult_le_pos s (1 - c)). pose proof (Rmult_le_pos (1 - s) (1 - a)). lra. }
      specialize (Ha b Hb). rewrite Fa, Fb in Ha. specialize (second b).
      assert (b - a = s * (c - a)) as e by (unfold b; lra).
      apply (Rmult_le_reg_l s); [ lra | ]. rewrite Rmult_0_r.
      replace (s * ((c - a) * (s_0 - s_t) + ((c - a) * u b - (c - a) * u a)))
        with ((b - a) * (s_0 - s_t) + (b - a) * (u b - u a)) by (rewrite e; lra). lra. }
  assert (0 <= a * s_0 + (1 - a) * s_t) by (rewrite <- Fa; auto).
  assert (0 <= s_0 /\ 0 <= s_t) as [G0 Gt].
  { destruct (Req_dec a 0) as [e | Na0]; [ | destruct (Req_dec a 1) as [e | Na1] ].
    - specialize (side 1 ltac:(lra) ltac:(lra)). rewrite e in *. lra.
    - specialize (side 0 ltac:(lra) ltac:(lra)). rewrite e in *. lra.
    - pose proof (side 1 ltac:(lra) ltac:(lra)) as S1. pose proof (side 0 ltac:(lra) ltac:(lra)) as S0.
      assert (0 <= s_0 - s_t) by (apply (Rmult_le_reg_l (1 - a)); lra).
      assert (0 <= s_t - s_0) by (apply (Rmult_le_reg_l a); lra).
      assert (s_0 = s_t) as e by lra. rewrite e in *. lra. }
  split; [ apply Pq | unfold s_0, s_t in *; repeat split; trivial; lra ].
Qed.

Theorem T6 : forall n (pi_0 pi_t : arm n -> R) e_0 e_t y,
  policy pi_0 -> policy pi_t -> 0 < pi_0 y -> 0 < pi_t y ->
  ((exists pi, in_region pi_0 pi_t e_0 e_t pi) <->
   forall alpha, 0 <= alpha <= 1 ->
     0 <= alpha * e_0 + (1 - alpha) * e_t + ln (C_S pi_0 pi_t alpha)).
Proof.
  intros n pi_0 pi_t e_0 e_t y P0 Pt H0 Ht. split.
  - intros [pi R] alpha Ha. pose proof (T6_sound n pi pi_0 pi_t e_0 e_t alpha P0 Pt R Ha). lra.
  - intro Hm. destruct (T6_complete n pi_0 pi_t e_0 e_t y P0 Pt H0 Ht Hm) as (a & _ & R).
    now exists (pi_ref_S pi_0 pi_t a).
Qed.
