(* T1, Proposition 4.1 of the paper with its constant: two KLs are one KL, minus log C. *)
From Coq Require Import Reals Lra.
From DAR Require Export gibbs.
Open Scope R_scope.

Lemma power_nonneg : forall x a, 0 <= x ^^ a.
Proof.
  intros. unfold power. destruct (Req_EM_T x 0); [ destruct (Req_EM_T a 0); lra | ]. left. apply exp_pos.
Qed.

Lemma power_zero : forall x a, x ^^ a = 0 <-> x = 0 /\ a <> 0.
Proof.
  intros. unfold power. destruct (Req_EM_T x 0); [ destruct (Req_EM_T a 0) | ]; split; intros; try tauto; try lra.
  pose proof (exp_pos (a * ln x)). unfold Rpower in *. lra.
Qed.

Lemma ln_power : forall x a, x ^^ a <> 0 -> ln (x ^^ a) = a * ln x.
Proof.
  intros x a H. unfold power in *. destruct (Req_EM_T x 0); [ destruct (Req_EM_T a 0) | ].
  - rewrite ln_1. subst. lra.
  - lra.
  - apply ln_exp.
Qed.

(* The weighted geometric mean is at most the weighted mean, and equal only for equal numbers. *)
Lemma geometric_le : forall x y a, 0 <= x -> 0 <= y -> 0 < a < 1 ->
  x ^^ a * y ^^ (1 - a) <= a * x + (1 - a) * y /\
  (x ^^ a * y ^^ (1 - a) = a * x + (1 - a) * y -> x = y).
Proof.
  intros x y a Hx Hy Ha.
  pose proof (Rmult_le_pos a x ltac:(lra) Hx). pose proof (Rmult_le_pos (1 - a) y ltac:(lra) Hy).
  destruct (Req_dec (x ^^ a * y ^^ (1 - a)) 0) as [e | N].
  - rewrite e. split; [ lra | ]. intro.
    assert (a * x = 0 /\ (1 - a) * y = 0) as [X Y] by lra.
    apply Rmult_integral in X. apply Rmult_integral in Y. destruct X, Y; lra.
  - set (m := x ^^ a * y ^^ (1 - a)) in *.
    assert (x ^^ a <> 0 /\ y ^^ (1 - a) <> 0) as [Nx Ny] by (split; intro e; apply N; unfold m; rewrite e; lra).
    assert (Px : 0 < x) by (apply pos; trivial; intro; apply Nx, power_zero; split; [ trivial | lra ]).
    assert (Py : 0 < y) by (apply pos; trivial; intro; apply Ny, power_zero; split; [ trivial | lra ]).
    assert (Pm : 0 < m) by (apply pos; trivial; apply Rmult_le_pos; apply power_nonneg).
    assert (Lm : ln m = a * ln x + (1 - a) * ln y).
    { unfold m. rewrite ln_mult, !ln_power; auto using pos, power_nonneg. }
    pose proof (arm_le m x ltac:(lra) ltac:(lra) ltac:(lra)) as Gx.
    pose proof (arm_le m y ltac:(lra) ltac:(lra) ltac:(lra)) as Gy.
    assert (Z : a * (m * ln (m / x)) + (1 - a) * (m * ln (m / y)) = 0).
    { rewrite !ln_div by trivial. rewrite Lm. lra. }
    apply (Rmult_le_compat_l a) in Gx; [ | lra ]. apply (Rmult_le_compat_l (1 - a)) in Gy; [ | lra ].
    split; [ lra | ]. intro e.
    assert (m = x) by (apply arm_eq; try lra; apply (Rmult_eq_reg_l a); lra).
    assert (m = y) by (apply arm_eq; try lra; apply (Rmult_eq_reg_l (1 - a)); lra). lra.
Qed.

Lemma mix_nonneg {n} (pi_0 pi_t : arm n -> R) alpha y : 0 <= mix pi_0 pi_t alpha y.
Proof. apply Rmult_le_pos; apply power_nonneg. Qed.

(* The reference lacks an arm exactly where an anchor of positive weight does. *)
Lemma mix_zero {n} (pi_0 pi_t : arm n -> R) alpha y :
  mix pi_0 pi_t alpha y = 0 <-> (pi_0 y = 0 /\ alpha <> 0) \/ (pi_t y = 0 /\ 1 - alpha <> 0).
Proof.
  rewrite <- !power_zero. unfold mix. split; [ apply Rmult_integral | ]. intros [e | e]; rewrite e; lra.
Qed.

Lemma ln_mix {n} (pi_0 pi_t : arm n -> R) alpha y : mix pi_0 pi_t alpha y <> 0 ->
  ln (mix pi_0 pi_t alpha y) = alpha * ln (pi_0 y) + (1 - alpha) * ln (pi_t y).
Proof.
  intro N. unfold mix in *.
  assert (pi_0 y ^^ alpha <> 0 /\ pi_t y ^^ (1 - alpha) <> 0) as [] by (split; intro e; apply N; rewrite e; lra).
  rewrite ln_mult, !ln_power; auto using pos, power_nonneg.
Qed.

(* Both sides of T1 are finite for the same policies. *)
Theorem T1_finite : forall n (pi pi_0 pi_t : arm n -> R) alpha,
  pi lives_on mix pi_0 pi_t alpha <->
  (alpha <> 0 -> pi lives_on pi_0) /\ (1 - alpha <> 0 -> pi lives_on pi_t).
Proof.
  intros. unfold supported. split.
  - intro H. split; intros N y e; apply H, mix_zero; tauto.
  - intros [H0 Ht] y e. apply mix_zero in e as [[e N] | [e N]]; auto.
Qed.

(* Nothing but the sign of the anchors is needed: T6 uses this for anchors cut to their common support. *)
Lemma dual_KL_is {n} (pi pi_0 pi_t : arm n -> R) alpha :
  policy pi -> (forall y, 0 <= pi_0 y) -> (forall y, 0 <= pi_t y) -> pi lives_on mix pi_0 pi_t alpha ->
  dual_KL pi_0 pi_t alpha pi = KL pi (pi_ref pi_0 pi_t alpha) - ln (C pi_0 pi_t alpha).
Proof.
  intros P P0 Pt H. destruct (proj1 (T1_finite _ _ _ _ _) H) as [H0 Ht].
  unfold dual_KL, pi_ref, C. rewrite KL_normalise, !KL_split by auto using mix_nonneg.
  rewrite <- sum_add. unfold Rminus. rewrite Rplus_assoc, Rplus_opp_r, Rplus_0_r. apply sum_ext. intro y.
  destruct (Req_dec (pi y) 0) as [-> | N]; [ lra | ]. rewrite ln_mix; [ lra | ]. intro e. now apply N, H.
Qed.

Theorem T1 : forall n (pi pi_0 pi_t : arm n -> R) alpha,
  policy pi -> policy pi_0 -> policy pi_t -> pi lives_on mix pi_0 pi_t alpha ->
  alpha * KL pi pi_0 + (1 - alpha) * KL pi pi_t =
  KL pi (pi_ref pi_0 pi_t alpha) - ln (C pi_0 pi_t alpha).
Proof. intros n pi pi_0 pi_t alpha P [P0 _] [Pt _] H. now apply dual_KL_is. Qed.

Lemma power_0 x : x ^^ 0 = 1.
Proof.
  unfold power. destruct (Req_EM_T x 0), (Req_EM_T 0 0); try lra. unfold Rpower. rewrite Rmult_0_l. apply exp_0.
Qed.

Lemma power_1 x : 0 <= x -> x ^^ 1 = x.
Proof.
  intro. unfold power. destruct (Req_EM_T x 0), (Req_EM_T 1 0); try lra. apply Rpower_1, pos; auto.
Qed.

(* Equal anchors mix to themselves, whatever alpha is. *)
Lemma power_split x a : 0 <= x -> x ^^ a * x ^^ (1 - a) = x.
Proof.
  intro H. unfold power. destruct (Req_EM_T x 0) as [-> | N].
  - destruct (Req_EM_T a 0), (Req_EM_T (1 - a) 0); lra.
  - rewrite <- Rpower_plus. replace (a + (1 - a)) with 1 by lra. now apply Rpower_1, pos.
Qed.

(* At the ends the mixture is the anchor itself. *)
Lemma mix_at_0 {n} (pi_0 pi_t : arm n -> R) y : 0 <= pi_t y -> mix pi_0 pi_t 0 y = pi_t y.
Proof. intro. unfold mix. rewrite power_0, Rminus_0_r, power_1; lra. Qed.

Lemma mix_at_1 {n} (pi_0 pi_t : arm n -> R) y : 0 <= pi_0 y -> mix pi_0 pi_t 1 y = pi_0 y.
Proof. intro. unfold mix. replace (1 - 1) with 0 by lra. rewrite power_0, power_1; lra. Qed.

Theorem C_at_ends : forall n (pi_0 pi_t : arm n -> R), policy pi_0 -> policy pi_t ->
  C pi_0 pi_t 0 = 1 /\ C pi_0 pi_t 1 = 1.
Proof.
  intros n pi_0 pi_t [H0 S0] [Ht St]. split; [ transitivity (sum pi_t) | transitivity (sum pi_0) ]; trivial;
    apply sum_ext; intro y; [ now apply mix_at_0 | now apply mix_at_1 ].
Qed.

Theorem C_le_1 : forall n (pi_0 pi_t : arm n -> R) alpha,
  policy pi_0 -> policy pi_t -> 0 <= alpha <= 1 -> C pi_0 pi_t alpha <= 1.
Proof.
  intros n pi_0 pi_t alpha P0 Pt Ha. destruct (C_at_ends _ _ _ P0 Pt) as [e0 e1].
  destruct (Req_dec alpha 0) as [-> | N0]; [ lra | ]. destruct (Req_dec alpha 1) as [-> | N1]; [ lra | ].
  destruct P0 as [H0 S0], Pt as [Ht St].
  replace 1 with (∑ y, (alpha * pi_0 y + (1 - alpha) * pi_t y)) by (rewrite sum_add, !sum_scale, S0, St; lra).
  apply sum_le. intro y. apply geometric_le; auto. lra.
Qed.

Theorem C_eq_1 : forall n (pi_0 pi_t : arm n -> R) alpha,
  policy pi_0 -> policy pi_t -> 0 < alpha < 1 ->
  (C pi_0 pi_t alpha = 1 <-> forall y, pi_0 y = pi_t y).
Proof.
  intros n pi_0 pi_t alpha [H0 S0] [Ht St] Ha. split.
  - intros e y. apply (geometric_le _ _ alpha); auto.
    apply (sum_le_eq _ (mix pi_0 pi_t alpha) (fun y => alpha * pi_0 y + (1 - alpha) * pi_t y)).
    + intro z. now apply geometric_le.
    + rewrite sum_add, !sum_scale, S0, St. unfold C in e. lra.
  - intro e. transitivity (sum pi_0); trivial. apply sum_ext. intro y. unfold mix. rewrite <- e.
    now apply power_split.
Qed.

(* The anchors share an arm: then there is a reference, it is a policy, and C > 0. *)
Theorem C_pos : forall n (pi_0 pi_t : arm n -> R) alpha y,
  0 < pi_0 y -> 0 < pi_t y -> 0 < C pi_0 pi_t alpha.
Proof.
  intros. apply sum_pos with y; auto using mix_nonneg. apply pos; [ apply mix_nonneg | ].
  rewrite mix_zero. lra.
Qed.

Theorem pi_ref_policy : forall n (pi_0 pi_t : arm n -> R) alpha,
  0 < C pi_0 pi_t alpha -> policy (pi_ref pi_0 pi_t alpha).
Proof. intros. apply normalise_policy; auto using mix_nonneg. Qed.

Lemma ln_pi_ref {n} (pi_0 pi_t : arm n -> R) alpha y : mix pi_0 pi_t alpha y <> 0 ->
  ln (pi_ref pi_0 pi_t alpha y) = alpha * ln (pi_0 y) + (1 - alpha) * ln (pi_t y) - ln (C pi_0 pi_t alpha).
Proof.
  intro N. assert (0 < mix pi_0 pi_t alpha y) by (apply pos; trivial; apply mix_nonneg).
  unfold pi_ref. rewrite ln_normalise, ln_mix; trivial. apply sum_pos with y; auto using mix_nonneg.
Qed.

Theorem T1_constant : forall n (pi_0 pi_t : arm n -> R) alpha,
  policy pi_0 -> policy pi_t -> 0 <= alpha <= 1 -> 0 < C pi_0 pi_t alpha ->
  0 <= - ln (C pi_0 pi_t alpha).
Proof.
  intros n pi_0 pi_t alpha P0 Pt Ha HC. pose proof (C_le_1 _ _ _ _ P0 Pt Ha).
  pose proof (ln_below_line _ HC). lra.
Qed.

Theorem T1_constant_zero : forall n (pi_0 pi_t : arm n -> R) alpha,
  policy pi_0 -> policy pi_t -> 0 < alpha < 1 -> 0 < C pi_0 pi_t alpha ->
  (- ln (C pi_0 pi_t alpha) = 0 <-> forall y, pi_0 y = pi_t y).
Proof.
  intros n pi_0 pi_t alpha P0 Pt Ha HC. rewrite <- C_eq_1 by eauto. split; intro e.
  - apply ln_inv; trivial; [ lra | ]. rewrite ln_1. lra.
  - rewrite e, ln_1. lra.
Qed.

(* With full support nothing is left to ask: the reference has every arm. *)
Theorem full_support : forall n (pi pi_0 pi_t : arm n -> R) alpha,
  policy pi -> (forall y, 0 < pi_0 y) -> (forall y, 0 < pi_t y) ->
  pi lives_on mix pi_0 pi_t alpha /\ 0 < C pi_0 pi_t alpha.
Proof.
  intros n pi pi_0 pi_t alpha [Hp Sp] F0 Ft. split.
  - intros y e. apply mix_zero in e. specialize (F0 y). specialize (Ft y). lra.
  - destruct (pos_term n pi) as [y _]; [ lra | now apply C_pos with y ].
Qed.

(* For 0 < alpha < 1 the constant is a Renyi divergence. *)
Theorem T1_renyi : forall n (pi_0 pi_t : arm n -> R) alpha, alpha <> 1 ->
  - ln (C pi_0 pi_t alpha) = (1 - alpha) * renyi pi_0 pi_t alpha.
Proof. intros. unfold renyi. change (∑ y, _) with (C pi_0 pi_t alpha). field. lra. Qed.
