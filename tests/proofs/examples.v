(* The hypotheses are not empty: the theorems are applied here to bandits with two or three arms, and nothing is left
   to assume. A statement whose hypotheses contradict each other could not be used like this. *)
From Coq Require Import Reals Lra Lia List.
From DAR Require Import t1 t2 t3_t4 t5_t11 t6 t7_t12 t10 normalised.
Open Scope R_scope.

Definition two (a b : R) : arm 2 -> R := fun y => Fin.caseS' y (fun _ => R) a (fun _ => b).
Definition three (a b c : R) : arm 3 -> R := fun y => Fin.caseS' y (fun _ => R) a (two b c).
Definition first : arm 2 := Fin.F1.
Definition second : arm 2 := Fin.FS Fin.F1.

Lemma each_of_two (P : arm 2 -> Prop) : P first -> P second -> forall y, P y.
Proof. intros. each_arm y; trivial. intro y. each_arm y; trivial. intro y. inversion y. Qed.

Lemma each_of_three (P : arm 3 -> Prop) :
  P Fin.F1 -> P (Fin.FS Fin.F1) -> P (Fin.FS (Fin.FS Fin.F1)) -> forall y, P y.
Proof. intros. each_arm y; trivial. apply each_of_two; trivial. Qed.

(* The bandit: two arms, the first is better by 1, and the anchors disagree. *)
Definition A := two 1 0.
Definition p_0 := two (1 / 4) (3 / 4).
Definition p_t := two (2 / 3) (1 / 3).
Definition even := two (1 / 2) (1 / 2).
Definition p := two (1 / 5) (4 / 5).

Definition odds_3 := two (3 / 4) (1 / 4).

(* Anchors that lack arms, and the one policy that both allow. *)
Definition left_only := three (1 / 2) (1 / 2) 0.
Definition right_only := three (1 / 2) 0 (1 / 2).
Definition common := three 1 0 0.

(* Write out the numbers of every arm, and compare. *)
Ltac numbers := unfold A, p_0, p_t, even, p, odds_3, left_only, right_only, common, first, second, three, two in *;
  simpl in *; lra.
Ltac on_two := split; [ apply each_of_two | ]; numbers.
Ltac on_three := split; [ apply each_of_three | ]; numbers.
Lemma P_0 : policy p_0. Proof. on_two. Qed.
Lemma P_t : policy p_t. Proof. on_two. Qed.
Lemma P_even : policy even. Proof. on_two. Qed.
Lemma P : policy p. Proof. on_two. Qed.
Lemma full_0 : forall y, 0 < p_0 y. Proof. apply each_of_two; numbers. Qed.
Lemma full_t : forall y, 0 < p_t y. Proof. apply each_of_two; numbers. Qed.
Lemma full_even : forall y, 0 < even y. Proof. apply each_of_two; numbers. Qed.
Lemma full_p : forall y, 0 < p y. Proof. apply each_of_two; numbers. Qed.
Lemma full_lives (q f : arm 2 -> R) : (forall y, 0 < f y) -> q lives_on f.
Proof. intros F y e. specialize (F y). lra. Qed.
Lemma full_arms (f g : arm 2 -> R) : (forall y, 0 < f y) -> (forall y, 0 < g y) -> same_arms f g.
Proof. intros F G y. specialize (F y). specialize (G y). lra. Qed.

Lemma lives alpha (q : arm 2 -> R) : policy q -> q lives_on mix p_0 p_t alpha.
Proof. intro Q. now apply full_support; [ | apply full_0 | apply full_t ]. Qed.
Lemma C_0_t alpha : 0 < C p_0 p_t alpha.
Proof. now apply (full_support 2 p p_0 p_t alpha P full_0 full_t). Qed.

Example T1_used := T1 2 p p_0 p_t (1 / 3) P P_0 P_t (lives _ p P).
Example T2_used := T2_gap 2 A p_0 p_t p (1 / 3) 1 P P_0 P_t Rlt_0_1 (lives _ p P).


Example T1_used_with_zeros : 1 / 3 * KL common left_only + (1 - 1 / 3) * KL common right_only =
  KL common (pi_ref left_only right_only (1 / 3)) - ln (C left_only right_only (1 / 3)).
Proof.
  apply T1; try on_three. apply T1_finite. split; intros _ y;
    pattern y; revert y; apply each_of_three; intro; numbers.
Qed.

Example constant_used : 0 < - ln (C p_0 p_t (1 / 3)).
Proof.
  apply pos; [ now apply T1_constant; auto using P_0, P_t, C_0_t; lra | ]. intro e.
  pose proof (proj1 (T1_constant_zero 2 p_0 p_t (1 / 3) P_0 P_t ltac:(lra) (C_0_t _)) e first). numbers.
Qed.

(* And what is false can be refuted: T1 without its constant. *)
Example T1_needs_its_constant : ~ (forall n (pi pi_0 pi_t : arm n -> R) alpha,
  policy pi -> policy pi_0 -> policy pi_t -> pi lives_on mix pi_0 pi_t alpha ->
  alpha * KL pi pi_0 + (1 - alpha) * KL pi pi_t = KL pi (pi_ref pi_0 pi_t alpha)).
Proof.
  intro wrong. specialize (wrong 2%nat p p_0 p_t (1 / 3) P P_0 P_t (lives _ p P)).
  rewrite (T1 2 p p_0 p_t (1 / 3) P P_0 P_t (lives _ p P)) in wrong. pose proof constant_used. lra.
Qed.

Lemma star_lives alpha (q : arm 2 -> R) : (forall y, 0 < q y) -> pi_star A p_0 p_t alpha 1 lives_on q.
Proof. apply full_lives. Qed.
Example T3_used := T3 2 A p_0 p_t p (1 / 3) 1 P P_0 P_t (C_0_t _) (star_lives _ _ full_t) (star_lives _ _ full_p).

Lemma mass : 0 < E p_t (w A p_0 p_t (1 / 3) 1).
Proof.
  destruct (target_is_pi_star A p_0 p_t (1 / 3) 1 P_0 P_t (C_0_t _) (star_lives _ _ full_t)) as [-> _].
  apply M_pos, C_0_t.
Qed.
Example T4_used := T4 2 A p_0 p_t p (1 / 3) 1 1 P P_t Rlt_0_1 mass (full_lives _ _ full_p).

(* At even anchors the weights are exp A: a clip of 2 is between them. *)
Lemma w_even y : w A even even (1 / 3) 1 y = exp (A y).
Proof.
  unfold w. replace (even y / even y) with 1 by (field; pose proof (full_even y); lra).
  unfold power. destruct (Req_EM_T 1 0); [ lra | ]. unfold Rpower. rewrite ln_1, Rmult_0_r, exp_0, Rmult_1_l.
  f_equal. lra.
Qed.
Example T4_moves_used :
  target even (clipped A even even (1 / 3) 1 2) first * pi_star A even even (1 / 3) 1 second <
  target even (clipped A even even (1 / 3) 1 2) second * pi_star A even even (1 / 3) 1 first.
Proof.
  pose proof (exp_ineq1 1 ltac:(lra)).
  apply T4_moves; rewrite ?w_even; auto using P_even, full_even; simpl; rewrite ?exp_0; lra.
Qed.

Example T5_used := T5_end 2 A p_0 p (1 / 3) 1 P_0 P (full_arms _ _ full_p full_0) ltac:(lra) Rlt_0_1 first.
Example T5_below_used : forall y, clipped_step A even 1 1 (Rpower 2 (-1)) even y = even y.
Proof.
  apply T5_clip_below; auto using P_even, Rlt_0_1; [ now apply full_lives, full_even | apply exp_pos | ].
  rewrite Rpower_mult. replace (-1 * - / 1) with 1 by field. rewrite Rpower_1 by lra.
  apply each_of_two; simpl; pose proof (exp_ineq1_le (1 / (1 * 1))); pose proof (exp_ineq1_le (0 / (1 * 1))); lra.
Qed.
(* Centred advantages whose fixed point is the even policy: p_e leans to the other arm by as much as A does. *)
Definition A_c := two 1 (-1).
Definition p_e := normalise (two (exp (-1)) (exp 1)).
Lemma P_e : policy p_e /\ forall y, 0 < p_e y.
Proof.
  pose proof (exp_pos 1). pose proof (exp_pos (-1)).
  assert (0 < sum (two (exp (-1)) (exp 1))) by numbers.
  split; [ apply normalise_policy; trivial; apply each_of_two; numbers | ].
  apply each_of_two; apply Rdiv_lt_0_compat; trivial; numbers.
Qed.
Example T5_centred_used : forall y, even y = pi_inf A_c p_e 1 1 y.
Proof.
  destruct P_e as [Pe Fe]. pose proof (exp_pos 1). pose proof (exp_pos (-1)).
  apply T5_centred with (w_clip := 1); auto using P_even, full_arms, full_even, Rlt_0_1, Rle_refl.
  - unfold E, A_c. numbers.
  - assert (same : forall y, w A_c p_e even 1 1 y = 2 / (exp (-1) + exp 1)).
    { assert (one : exp (-1) * exp 1 = 1) by (rewrite <- exp_plus; replace (-1 + 1) with 0 by lra; apply exp_0).
      intro y. unfold w. rewrite power_1 by (left; apply Rdiv_lt_0_compat; auto using full_even).
      revert y. apply each_of_two; unfold p_e, normalise, A_c, even, first, second, two; simpl;
        rewrite Rplus_0_r; unfold Rdiv; rewrite !Rinv_1, !Rmult_1_r.
      - replace (exp (-1) * / (exp (-1) + exp 1) * / (1 * / 2) * exp 1) with
          (exp (-1) * exp 1 * (2 * / (exp (-1) + exp 1))) by (field; lra). rewrite one. lra.
      - replace (exp 1 * / (exp (-1) + exp 1) * / (1 * / 2) * exp (-1)) with
          (exp (-1) * exp 1 * (2 * / (exp (-1) + exp 1))) by (field; lra). rewrite one. lra. }
    apply equal_weights_stay with (Rmin (2 / (exp (-1) + exp 1)) 1); auto using P_even.
    + assert (W : 0 < 2 / (exp (-1) + exp 1)) by (apply Rdiv_lt_0_compat; lra).
      pose proof (Rmin_glb_lt _ 1 0 W Rlt_0_1). lra.
    + intros y _. unfold clipped. now rewrite same.
Qed.

Example T11_used :
  KL (pi_inf A p_0 (1 / 3) 1) (reference A p_0 (1 / 3) 1 1) < KL (pi_inf A p_0 (1 / 3) 1) (reference A p_0 (1 / 3) 1 0).
Proof. apply (T11_strict 2 A p_0 (1 / 3) 1 0 first second); auto using P_0; simpl; lra. Qed.

(* T6: radii at which the balls touch, so that they share a policy and the margin is 0. *)
Definition touching := pi_ref_S p_0 p_t (1 / 3).
Lemma touching_policy : policy touching /\ touching lives_on p_0 /\ touching lives_on p_t.
Proof.
  repeat split; try (apply full_lives; apply full_0 || apply full_t);
    now apply (in_S p); auto using P, full_lives, full_0, full_t.
Qed.
Example T6_used : in_region p_0 p_t (KL touching p_0) (KL touching p_t) touching /\
  margin p_0 p_t (KL touching p_0) (KL touching p_t) (1 / 3) = 0.
Proof.
  destruct touching_policy as (Pm & H0 & Ht). split; [ repeat split; try apply Pm; trivial; apply Rle_refl | ].
  pose proof (T6_identity 2 touching p_0 p_t (1 / 3) Pm P_0 P_t H0 Ht) as T. fold touching in T.
  rewrite (proj2 (KL_zero 2 touching touching Pm Pm (fun _ e => e))) in T by trivial. unfold margin. lra.
Qed.

(* The same radii satisfy the condition of T6 at every alpha; radii of 0 do not, and alpha = 1/3 certifies it. *)
Example T6_condition_used : forall alpha, 0 <= alpha <= 1 ->
  0 <= alpha * KL touching p_0 + (1 - alpha) * KL touching p_t + ln (C_S p_0 p_t alpha).
Proof.
  apply (T6 2 p_0 p_t (KL touching p_0) (KL touching p_t) first); auto using P_0, P_t, full_0, full_t.
  exists touching. apply T6_used.
Qed.
Example T6_certificate_used : forall pi, ~ in_region p_0 p_t 0 0 pi.
Proof.
  apply (T6_certificate 2 p_0 p_t 0 0 (1 / 3)); auto using P_0, P_t; [ lra | ].
  unfold margin. rewrite C_S_is_C by lra. pose proof constant_used. lra.
Qed.

(* T7 and T12: q is the best policy within its own distance of the even policy. The path is there after one step. *)
Definition q := pi_star_S even even A 1 1.
Definition radius := KL q even.
Definition steps t := match t with O => even | S _ => q end.

Lemma restrict_full (f g : arm 2 -> R) : (forall y, 0 < g y) -> forall y, restrict f g y = f y.
Proof. intros G y. unfold restrict. destruct (Req_EM_T (g y) 0); trivial. specialize (G y). lra. Qed.
Lemma q_is f : (forall y, 0 < f y) -> forall y, pi_star_S even f A 1 1 y = q y.
Proof.
  intro F. assert (e : forall g : arm 2 -> R, (forall y, 0 < g y) -> forall y,
    mix (restrict even g) (restrict g even) 1 y * exp (A y / 1) = even y * exp (A y / 1)).
  { intros g G y. rewrite mix_at_1 by (apply restrict_nonneg, P_even). now rewrite restrict_full. }
  intro y. unfold q, pi_star_S, pi_star, normalise.
  now rewrite (e f F), (e even full_even), (sum_ext _ _ _ (e f F)), (sum_ext _ _ _ (e even full_even)).
Qed.
Lemma C_q : 0 < C (restrict even even) (restrict even even) 1.
Proof. apply C_pos with first; rewrite restrict_full; auto using full_even. Qed.
Lemma P_q : policy q.
Proof. apply pi_star_policy, C_q. Qed.
Lemma full_q : forall y, 0 < q y.
Proof.
  intro y. apply pos; [ apply P_q | ]. intro e. apply pi_star_zero in e; [ | apply C_q ].
  apply mix_S_zero in e. pose proof (full_even y). lra.
Qed.
Lemma radius_pos : 0 < radius.
Proof.
  apply pos; [ apply KL_nonneg; auto using P_q, P_even, full_lives, full_even | ]. intro e.
  pose proof (proj1 (KL_zero 2 q even P_q P_even (full_lives _ _ full_even)) e) as same.
  assert (r : q first = exp 1 * q second).
  { unfold q, pi_star_S, pi_star, normalise. rewrite !mix_at_1 by (apply restrict_nonneg, P_even).
    rewrite !restrict_full by apply full_even. simpl. replace (1 / 1) with 1 by field.
    replace (0 / 1) with 0 by field. rewrite exp_0. lra. }
  rewrite !same in r. simpl in r. pose proof (exp_ineq1 1 ltac:(lra)). lra.
Qed.
Lemma steps_meet : forall t, multipliers even (steps t) radius radius A 1 0 (steps (S t)).
Proof.
  intro t. assert (F : forall y, 0 < steps t y) by (destruct t; [ apply full_even | apply full_q ]).
  assert (K : KL q (steps t) <= radius).
  { destruct t; [ apply Rle_refl | ]. simpl. rewrite (proj2 (KL_zero 2 q q P_q P_q (fun _ e => e))) by trivial.
    apply Rlt_le, radius_pos. }
  unfold multipliers. simpl. replace (1 / (1 + 0)) with 1 by field. rewrite !Rplus_0_r.
  split; [ lra | split; [ lra | split ] ].
  - split; [ apply P_q | ]. split; split; trivial; try now apply full_lives.
    + apply full_lives, full_even.
    + apply Rle_refl.
  - split; [ unfold radius; lra | split; [ lra | split; [ | lra ] ] ]. intros _ y. symmetry. now apply q_is.
Qed.
Example T7_used := T7_gap 2 A even even q p radius radius 1 0 P_even P_even (steps_meet O) ltac:(lra)
  P (full_lives _ _ full_even) (full_lives _ _ full_even).
Example T12_used : forall best, policy best -> KL best even <= radius -> E best A <= E q A.
Proof.
  intros best Pb Kb. pose proof radius_pos.
  apply (T12_end 2 A even best steps (fun _ => 1) (fun _ => 0) radius radius) with (t := 2%nat);
    auto using P_even, steps_meet; try lra; [ now apply full_lives, full_even | simpl; lra ].
Qed.

Example T10_used := T10 2 A p_0 p_t (1 / 3) 1 4 P_0 P_t Rlt_0_1 ltac:(lia) (C_0_t _) (full_lives _ _ full_t).
Example T10_identity_used := T10_identity 2 A first nil (second :: nil) ltac:(simpl; lia).

(* Normalised advantages that stand still: at odds of 3, from an even start, if 1 / (alpha beta) = sd log 3. *)
Lemma P_3 : policy odds_3. Proof. on_two. Qed.
Lemma ln_3 : 0 < ln 3. Proof. rewrite <- ln_1. apply ln_increasing; lra. Qed.
Lemma sd_pos : 0 < sd odds_3 A.
Proof. apply sqrt_lt_R0. unfold variance, E. simpl. lra. Qed.
Example normalised_used :
  sd odds_3 (fun y => ln (odds_3 y / even y)) = 1 / (1 * (/ (sd odds_3 A * ln 3))).
Proof.
  pose proof sd_pos as Hs. pose proof ln_3 as H3.
  apply (normalised_fixed_point 2 A even odds_3 1 (/ (sd odds_3 A * ln 3)));
    auto using P_even, P_3, Rlt_0_1, Rmult_lt_0_compat, Rinv_0_lt_compat.
  assert (m : E odds_3 A = 3 / 4) by (unfold E; simpl; lra).
  assert (e : forall y, mix even odds_3 1 y * exp (normalised A odds_3 y / / (sd odds_3 A * ln 3)) =
    1 / 2 * exp ((A y - 3 / 4) * ln 3)).
  { intro y. rewrite mix_at_1 by apply P_even. unfold normalised. rewrite m. f_equal.
    - revert y. apply each_of_two; reflexivity.
    - f_equal. field. lra. }
  set (u := exp ((0 - 3 / 4) * ln 3)). assert (0 < u) by apply exp_pos.
  assert (u3 : exp ((1 - 3 / 4) * ln 3) = 3 * u).
  { transitivity (exp (ln 3) * u); [ unfold u; rewrite <- exp_plus; f_equal; lra | rewrite exp_ln; lra ]. }
  intro y. unfold pi_star, normalise. rewrite e, (sum_ext _ _ _ e). revert y.
  apply each_of_two; simpl; fold u; rewrite u3; field; lra.
Qed.
