(* T2, Theorem 4.2 of the paper: the optimum, its value, and what any other policy loses. *)
From Coq Require Import Reals Lra.
From DAR Require Export t1.
Open Scope R_scope.

Lemma tilt_nonneg {n} (A pi_0 pi_t : arm n -> R) alpha beta y : 0 <= mix pi_0 pi_t alpha y * exp (A y / beta).
Proof. apply Rmult_le_pos; [ apply mix_nonneg | left; apply exp_pos ]. Qed.

Lemma tilt_zero {n} (A pi_0 pi_t : arm n -> R) alpha beta y :
  mix pi_0 pi_t alpha y * exp (A y / beta) = 0 <-> mix pi_0 pi_t alpha y = 0.
Proof.
  pose proof (exp_pos (A y / beta)). split; intro e; [ | rewrite e; lra ].
  apply Rmult_integral in e. lra.
Qed.

Lemma M_pos {n} (A pi_0 pi_t : arm n -> R) alpha beta : 0 < C pi_0 pi_t alpha <-> 0 < M A pi_0 pi_t alpha beta.
Proof.
  split; intro H; apply pos_term in H as [y Hy]; apply sum_pos with y; auto using mix_nonneg, tilt_nonneg;
    apply pos; auto using mix_nonneg, tilt_nonneg; rewrite ?tilt_zero.
  - lra.
  - rewrite <- (tilt_zero A _ _ _ beta). lra.
Qed.

Theorem pi_star_policy : forall n (A pi_0 pi_t : arm n -> R) alpha beta,
  0 < C pi_0 pi_t alpha -> policy (pi_star A pi_0 pi_t alpha beta).
Proof. intros. apply normalise_policy; [ intro; apply tilt_nonneg | now apply M_pos ]. Qed.

(* pi* has the arms of the reference, no more and no fewer. *)
Lemma pi_star_zero {n} (A pi_0 pi_t : arm n -> R) alpha beta y : 0 < C pi_0 pi_t alpha ->
  pi_star A pi_0 pi_t alpha beta y = 0 <-> mix pi_0 pi_t alpha y = 0.
Proof. intro. unfold pi_star. rewrite normalise_zero by now apply M_pos. apply tilt_zero. Qed.

Lemma ln_pi_star {n} (A pi_0 pi_t : arm n -> R) alpha beta y : mix pi_0 pi_t alpha y <> 0 ->
  ln (pi_star A pi_0 pi_t alpha beta y) =
  alpha * ln (pi_0 y) + (1 - alpha) * ln (pi_t y) + A y / beta - ln (M A pi_0 pi_t alpha beta).
Proof.
  intro N. assert (P : 0 < mix pi_0 pi_t alpha y) by (apply pos; trivial; apply mix_nonneg).
  unfold pi_star. rewrite ln_normalise, ln_mult, ln_exp, ln_mix; auto using exp_pos, Rmult_lt_0_compat.
  apply sum_pos with y; [ intro; apply tilt_nonneg | auto using exp_pos, Rmult_lt_0_compat ].
Qed.

(* As in T1, only the sign of the anchors is needed. *)
Lemma J_is {n} (A pi_0 pi_t : arm n -> R) alpha beta pi :
  policy pi -> (forall y, 0 <= pi_0 y) -> (forall y, 0 <= pi_t y) -> 0 < beta -> pi lives_on mix pi_0 pi_t alpha ->
  J A pi_0 pi_t alpha beta pi =
  beta * ln (M A pi_0 pi_t alpha beta) - beta * KL pi (pi_star A pi_0 pi_t alpha beta).
Proof.
  intros P P0 Pt Hb H. unfold J. rewrite dual_KL_is by trivial. unfold pi_ref, pi_star, C.
  rewrite !KL_normalise; auto using mix_nonneg, tilt_nonneg.
  2: { intros y e. now apply tilt_zero, H in e. }
  unfold M, E.
  enough (∑ y, (pi y * A y) = beta * ∑ y, (pi y * (ln (pi y) - ln (mix pi_0 pi_t alpha y)) -
    pi y * (ln (pi y) - ln (mix pi_0 pi_t alpha y * exp (A y / beta))))) as e by (rewrite e, sum_sub; lra).
  rewrite <- sum_scale. apply sum_ext. intro y. destruct (Req_dec (pi y) 0) as [-> | N]; [ lra | ].
  rewrite ln_mult, ln_exp; [ field; lra | | apply exp_pos ].
  apply pos; [ apply mix_nonneg | ]. intro e. now apply N, H.
Qed.

Lemma J_best {n} (A pi_0 pi_t : arm n -> R) alpha beta :
  (forall y, 0 <= pi_0 y) -> (forall y, 0 <= pi_t y) -> 0 < beta -> 0 < C pi_0 pi_t alpha ->
  J A pi_0 pi_t alpha beta (pi_star A pi_0 pi_t alpha beta) = beta * ln (M A pi_0 pi_t alpha beta).
Proof.
  intros P0 Pt Hb HC. pose proof (pi_star_policy n A pi_0 pi_t alpha beta HC) as Ps.
  rewrite J_is; trivial; [ | intro; now apply pi_star_zero ].
  rewrite (proj2 (KL_zero n _ _ Ps Ps (fun _ e => e))) by trivial. lra.
Qed.

Lemma J_optimum {n} (A pi_0 pi_t pi : arm n -> R) alpha beta :
  policy pi -> (forall y, 0 <= pi_0 y) -> (forall y, 0 <= pi_t y) -> 0 < beta -> pi lives_on mix pi_0 pi_t alpha ->
  J A pi_0 pi_t alpha beta pi <= J A pi_0 pi_t alpha beta (pi_star A pi_0 pi_t alpha beta) /\
  (J A pi_0 pi_t alpha beta pi = J A pi_0 pi_t alpha beta (pi_star A pi_0 pi_t alpha beta) ->
   forall y, pi y = pi_star A pi_0 pi_t alpha beta y).
Proof.
  intros P P0 Pt Hb H.
  assert (HC : 0 < C pi_0 pi_t alpha) by eauto using lives_on_sum, mix_nonneg.
  pose proof (pi_star_policy n A pi_0 pi_t alpha beta HC) as Ps. rewrite J_best, J_is by trivial.
  assert (Hs : pi lives_on pi_star A pi_0 pi_t alpha beta) by (intros y e; apply pi_star_zero in e; auto).
  pose proof (Rmult_le_pos beta _ ltac:(lra) (KL_nonneg n _ _ P Ps Hs)). split; [ lra | ].
  intro e. apply KL_zero; trivial. apply (Rmult_eq_reg_l beta); lra.
Qed.

Theorem T2_value : forall n (A pi_0 pi_t : arm n -> R) alpha beta,
  policy pi_0 -> policy pi_t -> 0 < beta -> 0 < C pi_0 pi_t alpha ->
  let best := pi_star A pi_0 pi_t alpha beta in
  J A pi_0 pi_t alpha beta best = beta * ln (M A pi_0 pi_t alpha beta).
Proof. intros n A pi_0 pi_t alpha beta [P0 _] [Pt _] Hb HC best. now apply J_best. Qed.

Theorem T2_gap : forall n (A pi_0 pi_t pi : arm n -> R) alpha beta,
  policy pi -> policy pi_0 -> policy pi_t -> 0 < beta -> pi lives_on mix pi_0 pi_t alpha ->
  let best := pi_star A pi_0 pi_t alpha beta in
  J A pi_0 pi_t alpha beta best - J A pi_0 pi_t alpha beta pi = beta * KL pi best.
Proof.
  intros n A pi_0 pi_t pi alpha beta P [P0 _] [Pt _] Hb H best. subst best.
  rewrite J_best, J_is by eauto using lives_on_sum, mix_nonneg. lra.
Qed.

(* No policy is better, and none ties. *)
Theorem T2_optimum : forall n (A pi_0 pi_t pi : arm n -> R) alpha beta,
  policy pi -> policy pi_0 -> policy pi_t -> 0 < beta -> pi lives_on mix pi_0 pi_t alpha ->
  let best := pi_star A pi_0 pi_t alpha beta in
  J A pi_0 pi_t alpha beta pi <= J A pi_0 pi_t alpha beta best /\
  (J A pi_0 pi_t alpha beta pi = J A pi_0 pi_t alpha beta best -> forall y, pi y = best y).
Proof. intros n A pi_0 pi_t pi alpha beta P [P0 _] [Pt _] Hb H best. now apply J_optimum. Qed.
