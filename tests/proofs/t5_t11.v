(* T5: repeated steps contract by exactly 1 - alpha, and where they end. T11: the moving reference covers that end
   better at every step. *)
From Coq Require Import Reals Lra Lia.
From DAR Require Export t3_t4.
Open Scope R_scope.

Lemma arms_through {n} (p q r : arm n -> R) : same_arms p r -> same_arms q r -> same_arms p q.
Proof. intros Hp Hq y. now rewrite (Hp y), (Hq y). Qed.

(* Two policies whose logarithms differ by f, up to the normaliser: they differ by no more than the range of f. *)
Lemma log_distance {n} (p q f : arm n -> R) r : policy p -> policy q -> same_arms p q ->
  (fun y => ln (p y) - ln (q y)) ≃ f on p ->
  (forall y z, p y <> 0 -> p z <> 0 -> f y - f z <= r) ->
  forall y, p y <> 0 -> Rabs (ln (p y) - ln (q y)) <= r.
Proof.
  intros Pp Pq S [c Hc] Hr y Hy.
  assert (mean : forall g m, policy m -> same_arms p m -> (forall z, p z <> 0 -> g z <= r) -> ∑ z, m z * g z <= r).
  { intros g m [Hm Sm] Hs Hg. rewrite <- (Rmult_1_r r), <- Sm, <- sum_scale. apply sum_le. intro z.
    destruct (Req_dec (m z) 0) as [-> | N]; [ lra | ]. rewrite Rmult_comm. apply Rmult_le_compat_r; auto.
    apply Hg. intro e. now apply N, Hs. }
  assert (Kp : 0 <= KL p q) by (apply KL_nonneg; trivial; intro; apply S).
  assert (Kq : 0 <= KL q p) by (apply KL_nonneg; trivial; intro; apply S).
  rewrite <- (Rmult_1_l (KL _ _)), KL_split in Kp by (try apply Pq; trivial; intros _ z; apply S).
  rewrite <- (Rmult_1_l (KL _ _)), KL_split in Kq by (try apply Pp; trivial; intros _ z; apply S).
  pose proof (mean (fun z => f y - f z) q Pq S ltac:(intros; now apply Hr)) as Mq.
  pose proof (mean (fun z => f z - f y) p Pp ltac:(easy) ltac:(intros; now apply Hr)) as Mp.
  rewrite (sum_ext _ _ (fun z => (f y + c) * q z + q z * (1 * (ln (q z) - ln (p z))))) in Mq.
  2: { intro z. destruct (Req_dec (p z) 0) as [e | N]; [ apply S in e; rewrite e; lra | ].
       specialize (Hc z N). simpl in Hc. replace (ln (q z) - ln (p z)) with (- (f z + c)) by lra. lra. }
  rewrite (sum_ext _ _ (fun z => (- (f y + c)) * p z + p z * (1 * (ln (p z) - ln (q z))))) in Mp.
  2: { intro z. destruct (Req_dec (p z) 0) as [e | N]; [ rewrite e; lra | ].
       specialize (Hc z N). simpl in Hc. rewrite Hc. lra. }
  rewrite sum_add, sum_scale in Mq, Mp. destruct Pp as [_ Sp], Pq as [_ Sq]. rewrite Sp in Mp. rewrite Sq in Mq.
  specialize (Hc y Hy). simpl in Hc. apply Rabs_le. lra.
Qed.

Lemma equal_up_to_normaliser {n} (p q : arm n -> R) : policy p -> policy q -> same_arms p q ->
  (fun y => ln (p y)) ≃ (fun y => ln (q y)) on p -> forall y, p y = q y.
Proof.
  intros Pp Pq S [c Hc] y. destruct (Req_dec (p y) 0) as [e | N]; [ apply S in e as e'; lra | ].
  assert (Rabs (ln (p y) - ln (q y)) <= 0) as D.
  { apply (log_distance p q (fun _ => 0)); trivial; [ | intros; lra ]. exists c. intros z Hz.
    rewrite Hc by trivial. lra. }
  apply ln_inv; [ apply pos; trivial; apply Pp | apply pos; [ apply Pq | intro e; now apply N, S ] | ].
  pose proof (Rabs_pos (ln (p y) - ln (q y))). apply Rminus_diag_uniq.
  destruct (Req_dec (ln (p y) - ln (q y)) 0) as [e | F]; trivial. pose proof (Rabs_pos_lt _ F). lra.
Qed.

Lemma pi_inf_pos {n} (A pi_0 : arm n -> R) alpha beta : policy pi_0 ->
  0 < ∑ y, pi_0 y * exp (A y / (alpha * beta)).
Proof.
  intros [H0 S0]. destruct (pos_term n pi_0) as [y Hy]; [ lra | ].
  apply sum_pos with y; intros; [ apply Rmult_le_pos | apply Rmult_lt_0_compat ]; auto using exp_pos, Rlt_le.
Qed.

Theorem pi_inf_policy : forall n (A pi_0 : arm n -> R) alpha beta, policy pi_0 ->
  policy (pi_inf A pi_0 alpha beta) /\ same_arms (pi_inf A pi_0 alpha beta) pi_0.
Proof.
  intros n A pi_0 alpha beta P. pose proof (pi_inf_pos A pi_0 alpha beta P). split.
  - apply normalise_policy; trivial. intro. apply Rmult_le_pos; [ apply P | left; apply exp_pos ].
  - intro y. unfold pi_inf. rewrite normalise_zero by trivial. pose proof (exp_pos (A y / (alpha * beta))).
    split; intro e; [ apply Rmult_integral in e; lra | rewrite e; lra ].
Qed.

Lemma ln_pi_inf {n} (A pi_0 : arm n -> R) alpha beta y : policy pi_0 -> pi_0 y <> 0 ->
  ln (pi_inf A pi_0 alpha beta y) =
  ln (pi_0 y) + A y / (alpha * beta) - ln (∑ y, pi_0 y * exp (A y / (alpha * beta))).
Proof.
  intros P N. assert (0 < pi_0 y) by (apply pos; trivial; apply P). unfold pi_inf.
  rewrite ln_normalise, ln_mult, ln_exp; auto using exp_pos, Rmult_lt_0_compat. now apply pi_inf_pos.
Qed.

Theorem T5_contraction : forall n (A pi_0 pi : arm n -> R) alpha beta,
  let next := step A pi_0 alpha beta pi in
  let last := pi_inf A pi_0 alpha beta in
  policy pi_0 -> 0 < alpha -> 0 < beta ->
  (fun y => ln (next y) - ln (last y)) ≃
  (fun y => (1 - alpha) * (ln (pi y) - ln (last y))) on next.
Proof.
  intros n A pi_0 pi alpha beta next last P Ha Hb. subst next last.
  exists (alpha * ln (∑ y, pi_0 y * exp (A y / (alpha * beta))) - ln (M A pi_0 pi alpha beta)). intros y N.
  assert (Nm : mix pi_0 pi alpha y <> 0).
  { intro e. apply N. unfold step, pi_star, normalise. rewrite e. lra. }
  unfold step. rewrite ln_pi_star, ln_pi_inf; trivial; [ field; lra | ].
  intro e. apply Nm, mix_zero. left. lra.
Qed.

(* A step from a policy on the arms of pi_0 stays on them. *)
Lemma step_arms {n} (A pi_0 pi : arm n -> R) alpha beta : policy pi_0 -> policy pi -> same_arms pi pi_0 ->
  policy (step A pi_0 alpha beta pi) /\ same_arms (step A pi_0 alpha beta pi) pi_0.
Proof.
  intros [H0 S0] [Hp _] S. assert (HC : 0 < C pi_0 pi alpha).
  { destruct (pos_term n pi_0) as [y Hy]; [ lra | ]. apply C_pos with y; trivial. apply pos; trivial.
    intro e. apply S in e. lra. }
  split; [ now apply pi_star_policy | ]. intro y. unfold step. rewrite pi_star_zero, mix_zero, (S y) by trivial.
  destruct (Req_dec alpha 0) as [-> | ]; lra || tauto.
Qed.

Lemma path_arms {n} (A pi_0 start : arm n -> R) alpha beta : policy pi_0 -> policy start -> same_arms start pi_0 ->
  forall t, policy (path A pi_0 alpha beta start t) /\ same_arms (path A pi_0 alpha beta start t) pi_0.
Proof. intros P Ps S. induction t as [ | t [Pt St]]; [ now split | now apply step_arms ]. Qed.

Theorem T5_fixed_point : forall n (A pi_0 : arm n -> R) alpha beta,
  policy pi_0 -> 0 < alpha -> 0 < beta -> forall y,
  step A pi_0 alpha beta (pi_inf A pi_0 alpha beta) y = pi_inf A pi_0 alpha beta y.
Proof.
  intros n A pi_0 alpha beta P Ha Hb. destruct (pi_inf_policy n A pi_0 alpha beta P) as [Pi Si].
  destruct (step_arms A pi_0 (pi_inf A pi_0 alpha beta) alpha beta P Pi Si) as [Ps Ss].
  apply equal_up_to_normaliser; trivial; [ now apply arms_through with pi_0 | ].
  destruct (T5_contraction n A pi_0 (pi_inf A pi_0 alpha beta) alpha beta P Ha Hb) as [c Hc].
  exists c. intros y N. specialize (Hc y N). simpl in Hc. lra.
Qed.

(* At alpha = 1 one step lands, from anywhere. *)
Theorem T5_one_step : forall n (A pi_0 pi : arm n -> R) beta,
  policy pi_0 -> 0 < beta -> forall y, step A pi_0 1 beta pi y = pi_inf A pi_0 1 beta y.
Proof.
  intros n A pi_0 pi beta [H0 _] Hb y. unfold step, pi_star, pi_inf, normalise.
  assert (e : forall y, mix pi_0 pi 1 y * exp (A y / beta) = pi_0 y * exp (A y / (1 * beta))).
  { intro. now rewrite mix_at_1, Rmult_1_l by trivial. }
  now rewrite e, (sum_ext _ _ _ e).
Qed.

(* For alpha < 1 lost support never returns. *)
Theorem T5_lost_support : forall n (A pi_0 pi : arm n -> R) alpha beta y,
  alpha < 1 -> pi y = 0 -> step A pi_0 alpha beta pi y = 0.
Proof.
  intros. unfold step, pi_star, normalise. rewrite (proj2 (mix_zero _ _ _ _)) by (right; split; lra). lra.
Qed.

Theorem T5_path : forall n (A pi_0 start : arm n -> R) alpha beta,
  let last := pi_inf A pi_0 alpha beta in
  policy pi_0 -> policy start -> same_arms start pi_0 -> 0 < alpha -> 0 < beta ->
  forall t,
  (fun y => ln (path A pi_0 alpha beta start t y) - ln (last y)) ≃
  (fun y => (1 - alpha) ^ t * (ln (start y) - ln (last y))) on pi_0.
Proof.
  intros n A pi_0 start alpha beta last P Ps S Ha Hb. subst last. induction t as [ | t [c IH]].
  - exists 0. intros. simpl. lra.
  - destruct (path_arms A pi_0 start alpha beta P Ps S t) as [Pt St].
    destruct (step_arms A pi_0 _ alpha beta P Pt St) as [Pn Sn].
    destruct (T5_contraction n A pi_0 (path A pi_0 alpha beta start t) alpha beta P Ha Hb) as [d Hd].
    exists ((1 - alpha) * c + d). intros y N. simpl. simpl in Hd, IH. rewrite Hd, IH; trivial; [ lra | ].
    intro e. now apply N, Sn.
Qed.

(* The distance to the end, in nats on every arm, falls like (1 - alpha)^t: R is the range of the first one. *)
Theorem T5_rate : forall n (A pi_0 start : arm n -> R) alpha beta r,
  let last := pi_inf A pi_0 alpha beta in
  let distance p y := ln (p y) - ln (last y) in
  policy pi_0 -> policy start -> same_arms start pi_0 -> 0 < alpha <= 1 -> 0 < beta ->
  (forall y z, pi_0 y <> 0 -> pi_0 z <> 0 -> distance start y - distance start z <= r) ->
  forall t y, pi_0 y <> 0 ->
  Rabs (distance (path A pi_0 alpha beta start t) y) <= (1 - alpha) ^ t * r.
Proof.
  intros n A pi_0 start alpha beta r last distance P Ps S Ha Hb Hr t y N. subst last distance.
  destruct (pi_inf_policy n A pi_0 alpha beta P) as [Pi Si].
  destruct (path_arms A pi_0 start alpha beta P Ps S t) as [Pt St].
  destruct (T5_path n A pi_0 start alpha beta P Ps S ltac:(lra) Hb t) as [c Hc].
  assert (0 <= (1 - alpha) ^ t) by (apply pow_le; lra).
  apply (log_distance _ _ (fun y => (1 - alpha) ^ t * (ln (start y) - ln (pi_inf A pi_0 alpha beta y)))); trivial.
  - now apply arms_through with pi_0.
  - exists c. intros z Nz. apply Hc. intro e. now apply Nz, St.
  - intros u v Nu Nv. rewrite <- Rmult_minus_distr_l. apply Rmult_le_compat_l; trivial.
    apply Hr; intro e; [ now apply Nu, St | now apply Nv, St ].
  - intro e. now apply N, St.
Qed.

(* So the path ends at pi_inf. *)
Theorem T5_end : forall n (A pi_0 start : arm n -> R) alpha beta,
  policy pi_0 -> policy start -> same_arms start pi_0 -> 0 < alpha <= 1 -> 0 < beta ->
  forall y, Un_cv (fun t => path A pi_0 alpha beta start t y) (pi_inf A pi_0 alpha beta y).
Proof.
  intros n A pi_0 start alpha beta P Ps S Ha Hb y.
  destruct (pi_inf_policy n A pi_0 alpha beta P) as [[Hi _] Si].
  destruct (Req_dec (pi_0 y) 0) as [e | N].
  { intros eps He. exists 0%nat. intros t _. destruct (path_arms A pi_0 start alpha beta P Ps S t) as [_ St].
    rewrite (proj2 (St y) e), (proj2 (Si y) e). unfold R_dist. now rewrite Rminus_diag_eq, Rabs_R0. }
  set (d := fun z => ln (start z) - ln (pi_inf A pi_0 alpha beta z)).
  set (r := 2 * ∑ z, Rabs (d z)).
  assert (R : forall u v, pi_0 u <> 0 -> pi_0 v <> 0 -> d u - d v <= r).
  { intros u v _ _. pose proof (term_le_sum n _ (fun z => Rabs_pos (d z)) u).
    pose proof (term_le_sum n _ (fun z => Rabs_pos (d z)) v). simpl in *. unfold r.
    pose proof (Rle_abs (d u)). pose proof (Rle_abs (- d v)). rewrite Rabs_Ropp in *. lra. }
  assert (positive : forall t, 0 < path A pi_0 alpha beta start t y).
  { intro t. destruct (path_arms A pi_0 start alpha beta P Ps S t) as [[Ht _] St]. apply pos; trivial.
    intro e. now apply N, St. }
  assert (0 < pi_inf A pi_0 alpha beta y) by (apply pos; trivial; intro e; now apply N, Si).
  assert (Un_cv (fun t => ln (path A pi_0 alpha beta start t y)) (ln (pi_inf A pi_0 alpha beta y))) as cv.
  { assert (0 <= r) by (pose proof (R y y N N); lra).
    intros eps He. destruct (pow_lt_1_zero (1 - alpha) ltac:(apply Rabs_def1; lra) (eps / (r + 1))
      ltac:(apply Rdiv_lt_0_compat; lra)) as [t0 Hr].
    exists t0. intros t Ht. specialize (Hr t Ht). unfold R_dist.
    eapply Rle_lt_trans; [ now apply (T5_rate n A pi_0 start alpha beta r) | ].
    rewrite Rabs_pos_eq in Hr by (apply pow_le; lra).
    apply Rle_lt_trans with (eps / (r + 1) * r); [ apply Rmult_le_compat_r; lra | ].
    apply (Rmult_lt_reg_r (r + 1)); [ lra | ].
    replace (eps / (r + 1) * r * (r + 1)) with (eps * r) by (field; lra). lra. }
  apply (continuity_seq exp) in cv; [ | apply derivable_continuous, derivable_exp ].
  rewrite exp_ln in cv by trivial. intros eps He. destruct (cv eps He) as [t0 Hc]. exists t0. intros t Ht.
  specialize (Hc t Ht). simpl in Hc. now rewrite exp_ln in Hc.
Qed.

(* No other policy on the arms of pi_0 is fixed. *)
Theorem T5_unique : forall n (A pi_0 pi : arm n -> R) alpha beta,
  policy pi_0 -> policy pi -> same_arms pi pi_0 -> 0 < alpha -> 0 < beta ->
  (forall y, step A pi_0 alpha beta pi y = pi y) ->
  forall y, pi y = pi_inf A pi_0 alpha beta y.
Proof.
  intros n A pi_0 pi alpha beta P Pp S Ha Hb F. destruct (pi_inf_policy n A pi_0 alpha beta P) as [Pi Si].
  apply equal_up_to_normaliser; trivial; [ now apply arms_through with pi_0 | ].
  destruct (T5_contraction n A pi_0 pi alpha beta P Ha Hb) as [c Hc]. exists (c / alpha). intros y N.
  specialize (Hc y). simpl in Hc. rewrite F in Hc. specialize (Hc N).
  apply (Rmult_eq_reg_l alpha); [ | lra ]. rewrite Rmult_plus_distr_l.
  replace (alpha * (c / alpha)) with c by (field; lra).
  lra.
Qed.

(* pi_inf is the best policy for the penalty alpha beta KL(pi‖pi_0) alone. *)
Theorem T5_end_is_optimal : forall n (A pi_0 pi : arm n -> R) alpha beta,
  let last := pi_inf A pi_0 alpha beta in
  policy pi_0 -> policy pi -> pi lives_on pi_0 -> 0 < alpha -> 0 < beta ->
  E pi A - alpha * beta * KL pi pi_0 <= E last A - alpha * beta * KL last pi_0.
Proof.
  intros n A pi_0 pi alpha beta last P Pp H Ha Hb. subst last.
  assert (e : forall y, pi_star A pi_0 pi_0 1 (alpha * beta) y = pi_inf A pi_0 alpha beta y).
  { assert (e : forall y, mix pi_0 pi_0 1 y * exp (A y / (alpha * beta)) = pi_0 y * exp (A y / (alpha * beta)))
      by (intro; rewrite mix_at_1; [ trivial | apply P ]).
    intro. unfold pi_star, pi_inf, normalise. now rewrite e, (sum_ext _ _ _ e). }
  destruct (T2_optimum n A pi_0 pi_0 pi 1 (alpha * beta) Pp P P (Rmult_lt_0_compat _ _ Ha Hb)) as [O _].
  { intros y Hy. apply H. rewrite mix_at_1 in Hy; [ trivial | apply P ]. }
  unfold J, dual_KL in O. rewrite (E_ext _ _ A A e), (KL_ext _ _ pi_0 pi_0 e) in O by trivial. lra.
Qed.

(* At alpha = 0 a policy with all arms is fixed only if all arms are equally good. *)
Theorem T5_alpha_0 : forall n (A pi_0 pi : arm n -> R) beta,
  policy pi -> 0 < beta -> (forall y, step A pi_0 0 beta pi y = pi y) ->
  forall y z, pi y <> 0 -> pi z <> 0 -> A y = A z.
Proof.
  intros n A pi_0 pi beta [Hp _] Hb F.
  assert (c : forall y, pi y <> 0 -> A y = beta * ln (M A pi_0 pi 0 beta)).
  { intros y N. pose proof (f_equal ln (F y)) as e. unfold step in e.
    rewrite ln_pi_star in e.
    - apply (Rmult_eq_reg_l (/ beta)); [ | apply Rinv_neq_0_compat; lra ].
      replace (/ beta * (beta * ln (M A pi_0 pi 0 beta))) with (ln (M A pi_0 pi 0 beta)) by (field; lra).
      unfold Rdiv in e. lra.
    - rewrite mix_at_0; auto. }
  intros y z Ny Nz. now rewrite (c y Ny), (c z Nz).
Qed.

(* At alpha = 0 the log odds of two arms grow at every step by their difference in A / beta: the worse one vanishes. *)
Lemma path_0_arms {n} (A pi_0 start : arm n -> R) beta t : policy start ->
  policy (path A pi_0 0 beta start t) /\ same_arms (path A pi_0 0 beta start t) start.
Proof.
  intro Ps. induction t as [ | t [Pt St]]; [ easy | ]. simpl.
  assert (m : forall y, mix pi_0 (path A pi_0 0 beta start t) 0 y = path A pi_0 0 beta start t y)
    by (intro; apply mix_at_0, Pt).
  assert (HC : 0 < C pi_0 (path A pi_0 0 beta start t) 0) by (unfold C; rewrite (sum_ext _ _ _ m), (proj2 Pt); lra).
  split; [ now apply pi_star_policy | ]. intro y. unfold step. rewrite pi_star_zero, m by trivial. apply St.
Qed.

Theorem T5_alpha_0_path : forall n (A pi_0 start : arm n -> R) beta,
  policy start -> 0 < beta -> forall t,
  (fun y => ln (path A pi_0 0 beta start t y)) ≃
  (fun y => ln (start y) + INR t * (A y / beta)) on start.
Proof.
  intros n A pi_0 start beta Ps Hb. induction t as [ | t [c IH]].
  - exists 0. intros. simpl. lra.
  - exists (c - ln (M A pi_0 (path A pi_0 0 beta start t) 0 beta)). intros y N. simpl path. unfold step.
    destruct (path_0_arms A pi_0 start beta t Ps) as [Pt St]. rewrite ln_pi_star, S_INR.
    + simpl in IH. rewrite (IH y N). lra.
    + rewrite mix_at_0 by apply Pt. intro e. now apply N, St.
Qed.

Theorem T5_alpha_0_run : forall n (A pi_0 start : arm n -> R) beta y z,
  policy start -> 0 < beta -> start y <> 0 -> start z <> 0 -> forall t,
  path A pi_0 0 beta start t z <= start z / start y * exp (- (INR t * ((A y - A z) / beta))).
Proof.
  intros n A pi_0 start beta y z Ps Hb Ny Nz t.
  destruct (path_0_arms A pi_0 start beta t Ps) as [Pt St].
  destruct (T5_alpha_0_path n A pi_0 start beta Ps Hb t) as [c Hc].
  pose proof (Hc y Ny) as Hy. pose proof (Hc z Nz) as Hz. simpl in Hy, Hz.
  assert (0 < start y /\ 0 < start z) as [] by (split; apply pos; trivial; apply Ps).
  assert (P : forall x, start x <> 0 -> 0 < path A pi_0 0 beta start t x)
    by (intros x N; apply pos; [ apply Pt | intro e; now apply N, St ]).
  assert (ln (path A pi_0 0 beta start t y) <= 0).
  { apply Rle_trans with (ln 1); [ apply ln_le; auto | rewrite ln_1; lra ]. rewrite <- (proj2 Pt).
    apply term_le_sum, Pt. }
  rewrite <- (exp_ln (path A pi_0 0 beta start t z)), <- (exp_ln (start z / start y)), <- exp_plus, ln_div
    by auto using Rdiv_lt_0_compat.
  match goal with |- exp ?u <= exp ?v => assert (G : u <= v) by (unfold Rdiv in *; lra) end.
  destruct G as [G | ->]; [ left; now apply exp_increasing | apply Rle_refl ].
Qed.

(* With the clip: at pi_inf every arm has the same weight, Z, and a clip leaves pi_inf fixed. *)
Theorem T5_weight_at_the_end : forall n (A pi_0 : arm n -> R) alpha beta y,
  policy pi_0 -> 0 < alpha -> 0 < beta -> pi_0 y <> 0 ->
  w A pi_0 (pi_inf A pi_0 alpha beta) alpha beta y = Z A pi_0 alpha beta.
Proof.
  intros n A pi_0 alpha beta y P Ha Hb N. pose proof (pi_inf_pos A pi_0 alpha beta P) as S.
  assert (0 < pi_0 y) by (apply pos; trivial; apply P).
  assert (Q : 0 < pi_0 y * exp (A y / (alpha * beta))) by auto using exp_pos, Rmult_lt_0_compat.
  assert (0 < pi_inf A pi_0 alpha beta y) by now apply Rdiv_lt_0_compat.
  unfold w, Z, power. destruct (Req_EM_T _ 0) as [e | _].
  { pose proof (Rdiv_lt_0_compat (pi_0 y) (pi_inf A pi_0 alpha beta y)). lra. }
  destruct (Req_EM_T _ 0); [ lra | ]. unfold Rpower. rewrite <- exp_plus. f_equal.
  rewrite ln_div, ln_pi_inf by trivial. field. lra.
Qed.

(* A policy is fixed by the clipped step if its clipped weight is the same on all its arms. *)
Lemma equal_weights_stay {n} (p v : arm n -> R) c : policy p -> c <> 0 ->
  (forall y, p y <> 0 -> v y = c) -> forall y, target p v y = p y.
Proof.
  intros [_ S] N H y. assert (e : forall y, p y * v y = c * p y).
  { intro z. destruct (Req_dec (p z) 0) as [e | Nz]; [ rewrite e; lra | ]. rewrite H by trivial. lra. }
  unfold target, normalise. rewrite e, (sum_ext _ _ _ e), sum_scale, S. field. trivial.
Qed.

Theorem T5_clip_above : forall n (A pi_0 : arm n -> R) alpha beta w_clip,
  let last := pi_inf A pi_0 alpha beta in
  policy pi_0 -> 0 < alpha -> 0 < beta -> Z A pi_0 alpha beta <= w_clip ->
  forall y, clipped_step A pi_0 alpha beta w_clip last y = last y.
Proof.
  intros n A pi_0 alpha beta w_clip last P Ha Hb Hc. subst last.
  destruct (pi_inf_policy n A pi_0 alpha beta P) as [Pi Si].
  apply equal_weights_stay with (Z A pi_0 alpha beta); trivial.
  - pose proof (pi_inf_pos A pi_0 alpha beta P). unfold Z. rewrite power_zero. lra.
  - intros y N. unfold clipped. rewrite T5_weight_at_the_end; trivial; [ now apply Rmin_left | ].
    intro e. now apply N, Si.
Qed.

(* Below Z every policy under the cap is fixed, and the start decides. *)
Theorem T5_clip_below : forall n (A pi_0 pi : arm n -> R) alpha beta w_clip,
  policy pi_0 -> policy pi -> pi lives_on pi_0 -> 0 < alpha -> 0 < beta -> 0 < w_clip ->
  (forall y, pi y <= Rpower w_clip (- / alpha) * (pi_0 y * exp (A y / (alpha * beta)))) ->
  forall y, clipped_step A pi_0 alpha beta w_clip pi y = pi y.
Proof.
  intros n A pi_0 pi alpha beta w_clip [H0 _] Pp S Ha Hb Hc H.
  apply equal_weights_stay with w_clip; trivial; [ lra | ]. intros y N. apply Rmin_right.
  assert (0 < pi y) by (apply pos; trivial; apply Pp).
  assert (0 < pi_0 y) by (apply pos; trivial; intro e; now apply N, S).
  assert (0 < pi_0 y / pi y) by now apply Rdiv_lt_0_compat.
  unfold w, power. destruct (Req_EM_T _ 0); [ lra | ]. unfold Rpower.
  rewrite <- exp_plus, <- (exp_ln w_clip) by trivial.
  assert (G : ln (pi y) <= - / alpha * ln w_clip + (ln (pi_0 y) + A y / (alpha * beta))).
  { rewrite <- (ln_exp (A y / (alpha * beta))), <- ln_mult by auto using exp_pos.
    rewrite <- (ln_exp (- / alpha * ln w_clip)), <- ln_mult by auto using exp_pos, Rmult_lt_0_compat.
    apply ln_le; trivial. }
  apply (Rmult_le_compat_l alpha) in G; [ | lra ].
  replace (alpha * (- / alpha * ln w_clip + (ln (pi_0 y) + A y / (alpha * beta)))) with
    (- ln w_clip + (alpha * ln (pi_0 y) + A y / beta)) in G by (field; lra).
  rewrite ln_div by trivial.
  destruct (Req_dec (ln w_clip) (alpha * (ln (pi_0 y) - ln (pi y)) + A y / beta)) as [-> | ]; [ lra | ].
  left. apply exp_increasing. lra.
Qed.

(* Centred advantages: a clip of at least 1 keeps the end. Where the clipped step stands still, nothing is clipped. *)
Theorem T5_centred : forall n (A pi_0 pi : arm n -> R) alpha beta w_clip,
  policy pi_0 -> policy pi -> same_arms pi pi_0 -> 0 < alpha -> 0 < beta -> 1 <= w_clip ->
  E pi A = 0 -> (forall y, clipped_step A pi_0 alpha beta w_clip pi y = pi y) ->
  forall y, pi y = pi_inf A pi_0 alpha beta y.
Proof.
  intros n A pi_0 pi alpha beta w_clip P0 P S Ha Hb Hc centred fixed. pose proof P as [Hp Sp].
  set (v := w A pi_0 pi alpha beta).
  assert (L0 : forall y, pi y <> 0 -> ln (v y) = - alpha * (ln (pi y) - ln (pi_0 y)) + A y / beta).
  { intros y N. assert (0 < pi y) by now apply pos.
    assert (0 < pi_0 y) by (apply pos; [ apply P0 | intro e; now apply N, S ]).
    assert (0 < pi_0 y / pi y) by now apply Rdiv_lt_0_compat.
    unfold v, w. rewrite ln_mult, ln_exp, ln_power, ln_div; try apply exp_pos; trivial; [ lra | | ];
      [ rewrite power_zero; lra | apply pos; [ apply power_nonneg | rewrite power_zero; lra ] ]. }
  (* The mean of log w is - alpha KL(pi‖pi_0). *)
  assert (mean_log : E pi (fun y => ln (v y)) <= 0).
  { assert (K : 0 <= KL pi pi_0) by (apply KL_nonneg; trivial; intro; apply S).
    assert (e : E pi (fun y => ln (v y)) = - alpha * (1 * KL pi pi_0) + / beta * E pi A).
    { rewrite KL_split by (try apply P0; trivial; intros _ y; apply S). unfold E. rewrite <- !sum_scale, <- sum_add.
      apply sum_ext. intro y. destruct (Req_dec (pi y) 0) as [-> | N]; [ lra | ]. rewrite L0 by trivial.
      unfold Rdiv. lra. }
    rewrite e, centred. pose proof (Rmult_le_pos alpha _ ltac:(lra) K). lra. }
  (* All clipped weights are the same number c. *)
  set (c := E pi (clipped A pi_0 pi alpha beta w_clip)).
  assert (V : forall y, pi y <> 0 -> 0 < v y).
  { intros y N. apply Rmult_lt_0_compat; [ | apply exp_pos ]. apply pos; [ apply power_nonneg | ].
    rewrite power_zero. intros [e _]. assert (0 < pi_0 y / pi y); [ | lra ].
    apply Rdiv_lt_0_compat; apply pos; auto; [ apply P0 | intro z; now apply N, S ]. }
  assert (Hm : 0 < c).
  { destruct (pos_term n pi) as [y Hy]; [ lra | ]. apply sum_pos with y.
    - intro. apply Rmult_le_pos; auto. apply clipped_nonneg. lra.
    - apply Rmult_lt_0_compat; trivial. apply Rmin_glb_lt; [ apply V | ]; lra. }
  assert (same : forall y, pi y <> 0 -> Rmin (v y) w_clip = c).
  { intros y N. apply (Rmult_eq_reg_l (pi y)); trivial. pose proof (fixed y) as F.
    unfold clipped_step, target, normalise in F. change (sum _) with c in F.
    rewrite <- F at 2. unfold clipped, v. field. lra. }
  (* A log w that is nowhere negative, of a mean that is not positive, is 0. *)
  assert (low : forall k, 0 <= k -> (forall y, pi y <> 0 -> k <= ln (v y)) ->
    k = 0 /\ forall y, pi y <> 0 -> ln (v y) = 0).
  { intros k Hk H. assert (le : forall y, pi y * k <= pi y * ln (v y)).
    { intro y. destruct (Req_dec (pi y) 0) as [-> | N]; [ lra | apply Rmult_le_compat_l; auto ]. }
    assert (m : ∑ y, (pi y * k) = k)
      by (rewrite (sum_ext _ _ (fun y => k * pi y)), sum_scale, Sp; [ lra | intro; lra ]).
    pose proof (sum_le _ _ _ le) as G. rewrite m in G. unfold E in mean_log.
    assert (k = 0) as -> by lra. split; trivial. intros y N.
    apply (Rmult_eq_reg_l (pi y)); trivial. symmetry.
    apply (sum_le_eq _ (fun y => pi y * 0) (fun y => pi y * ln (v y)) le). lra. }
  assert (unclipped : forall y, pi y <> 0 -> v y = c).
  { destruct (Rlt_le_dec c w_clip) as [lt | ge].
    - intros y N. specialize (same y N). unfold Rmin in same. destruct (Rle_dec (v y) w_clip); lra.
    - assert (ones : forall y, pi y <> 0 -> ln w_clip <= ln (v y)).
      { intros y N. specialize (same y N). apply ln_le; [ lra | ]. pose proof (Rmin_l (v y) w_clip). lra. }
      destruct (low (ln w_clip)) as [z O]; trivial; [ rewrite <- ln_1; apply ln_le; lra | ].
      intros y N. specialize (O y N). rewrite <- same with y by trivial. symmetry. apply Rmin_left.
      assert (v y = 1) as -> by (apply ln_inv; [ now apply V | lra | now rewrite ln_1 ]). trivial. }
  apply T5_unique; trivial. intro y. unfold step.
  assert (HC : 0 < C pi_0 pi alpha).
  { destruct (pos_term n pi) as [x Hx]; [ lra | ]. apply C_pos with x; trivial. apply pos; [ apply P0 | ].
    intro e. apply S in e. lra. }
  destruct (target_is_pi_star A pi_0 pi alpha beta P0 P HC) as [_ <-].
  - intros x e. apply pi_star_zero; trivial. apply mix_zero. destruct (Req_dec alpha 1) as [-> | ].
    + left. split; [ now apply S | lra ].
    + right. split; [ trivial | lra ].
  - apply equal_weights_stay with c; trivial. lra.
Qed.

Lemma reference_arms {n} (A pi_0 : arm n -> R) alpha beta t : policy pi_0 ->
  policy (reference A pi_0 alpha beta t) /\ same_arms (reference A pi_0 alpha beta t) pi_0.
Proof.
  intro P. destruct (path_arms A pi_0 pi_0 alpha beta P P ltac:(easy) t) as [Pt St].
  assert (HC : 0 < C pi_0 (path A pi_0 alpha beta pi_0 t) alpha).
  { destruct P as [H0 S0], Pt as [Ht _]. destruct (pos_term n pi_0) as [y Hy]; [ lra | ].
    apply C_pos with y; trivial. apply pos; trivial. intro e. apply St in e. lra. }
  split; [ now apply pi_ref_policy | ]. intro y. unfold reference, pi_ref.
  rewrite normalise_zero, mix_zero, (St y) by trivial. destruct (Req_dec alpha 0) as [-> | ]; lra || tauto.
Qed.

Theorem T11 : forall n (A pi_0 : arm n -> R) alpha beta t,
  let last := pi_inf A pi_0 alpha beta in
  policy pi_0 -> 0 < alpha -> 0 < beta ->
  (fun y => ln (reference A pi_0 alpha beta t y) - ln (last y)) ≃
  (fun y => (alpha + (1 - alpha) ^ (t + 1)) * (ln (pi_0 y) - ln (last y))) on pi_0.
Proof.
  intros n A pi_0 alpha beta t last P Ha Hb. subst last.
  destruct (T5_path n A pi_0 pi_0 alpha beta P P ltac:(easy) Ha Hb t) as [c Hc].
  destruct (path_arms A pi_0 pi_0 alpha beta P P ltac:(easy) t) as [_ St].
  exists ((1 - alpha) * c - ln (C pi_0 (path A pi_0 alpha beta pi_0 t) alpha)). intros y N.
  specialize (Hc y N). simpl in Hc. unfold reference. rewrite ln_pi_ref.
  - rewrite Nat.add_1_r. simpl. rewrite Rmult_plus_distr_r, Rmult_assoc.
    replace (ln (path A pi_0 alpha beta pi_0 t y)) with
      ((1 - alpha) ^ t * (ln (pi_0 y) - ln (pi_inf A pi_0 alpha beta y)) + c +
       ln (pi_inf A pi_0 alpha beta y)) by lra.
    lra.
  - rewrite mix_zero. intros [[e _] | [e _]]; [ | apply St in e ]; contradiction.
Qed.

(* The KL falls at least in proportion to the factor. This is T1: the next reference lies between this and the end. *)
Theorem T11_rate : forall n (A pi_0 : arm n -> R) alpha beta t,
  let last := pi_inf A pi_0 alpha beta in
  policy pi_0 -> 0 < alpha <= 1 -> 0 < beta ->
  (alpha + (1 - alpha) ^ (t + 1)) * KL last (reference A pi_0 alpha beta (t + 1)) <=
  (alpha + (1 - alpha) ^ (t + 2)) * KL last (reference A pi_0 alpha beta t).
Proof.
  intros n A pi_0 alpha beta t last P Ha Hb. subst last.
  destruct (pi_inf_policy n A pi_0 alpha beta P) as [Pi Si].
  destruct (reference_arms A pi_0 alpha beta t P) as [Pr Sr].
  destruct (reference_arms A pi_0 alpha beta (t + 1) P) as [Pn Sn].
  assert (F : 0 <= (1 - alpha) ^ (t + 1)) by (apply pow_le; lra).
  set (s := alpha + (1 - alpha) ^ (t + 1)) in *.
  assert (e : (1 - alpha) ^ (t + 2) = (1 - alpha) * (1 - alpha) ^ (t + 1)).
  { replace (t + 2)%nat with (S (t + 1)) by lia. reflexivity. }
  set (lambda := (alpha + (1 - alpha) ^ (t + 2)) / s).
  assert (Hs : 0 < s) by (unfold s; lra).
  assert (Hl : 0 <= lambda <= 1).
  { unfold lambda. rewrite e. split; [ apply Rmult_le_pos; [ | left; now apply Rinv_0_lt_compat ] | ].
    - pose proof (Rmult_le_pos (1 - alpha) _ ltac:(lra) F). lra.
    - apply (Rmult_le_reg_r s); trivial. unfold Rdiv. rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra.
      pose proof (Rmult_le_pos alpha _ ltac:(lra) F). unfold s. lra. }
  assert (lives : pi_inf A pi_0 alpha beta lives_on
    mix (reference A pi_0 alpha beta t) (pi_inf A pi_0 alpha beta) lambda).
  { intros y Hy. apply mix_zero in Hy as [[Hy _] | [Hy _]]; trivial. now apply Si, Sr. }
  pose proof (T1 n _ _ _ lambda Pi Pr Pi lives) as T.
  assert (HC : 0 < C (reference A pi_0 alpha beta t) (pi_inf A pi_0 alpha beta) lambda)
    by (apply (lives_on_sum (pi_inf A pi_0 alpha beta)); auto using mix_nonneg).
  pose proof (T1_constant n _ _ lambda Pr Pi Hl HC) as G.
  rewrite (proj2 (KL_zero n _ _ Pi Pi (fun _ e => e))) in T by trivial.
  rewrite (KL_ext _ (pi_inf A pi_0 alpha beta) (pi_ref _ _ lambda) (reference A pi_0 alpha beta (t + 1))) in T;
    trivial.
  - apply (Rmult_le_compat_l s) in G; [ | lra ].
    replace (alpha + (1 - alpha) ^ (t + 2)) with (s * lambda) by (unfold lambda; field; lra).
    pose proof (f_equal (Rmult s) T). lra.
  - destruct (T11 n A pi_0 alpha beta t P ltac:(lra) Hb) as [c Hc].
    destruct (T11 n A pi_0 alpha beta (t + 1) P ltac:(lra) Hb) as [d Hd].
    assert (arms : forall y,
      mix (reference A pi_0 alpha beta t) (pi_inf A pi_0 alpha beta) lambda y = 0 <-> pi_0 y = 0).
    { intro y. rewrite mix_zero, (Sr y), (Si y). destruct (Req_dec lambda 0) as [-> | ]; lra || tauto. }
    apply equal_up_to_normaliser; [ now apply pi_ref_policy | trivial | | ].
    + intro y. unfold pi_ref. rewrite normalise_zero by trivial. rewrite arms, (Sn y). tauto.
    + exists (lambda * c - d - ln (C (reference A pi_0 alpha beta t) (pi_inf A pi_0 alpha beta) lambda)). intros y N.
      assert (N0 : pi_0 y <> 0).
      { intro Hy. apply N. unfold pi_ref, normalise. rewrite (proj2 (arms y) Hy). lra. }
      specialize (Hc y N0). specialize (Hd y N0). simpl in Hc, Hd.
      replace (t + 1 + 1)%nat with (t + 2)%nat in Hd by lia. fold s in Hc.
      rewrite ln_pi_ref by now rewrite arms.
      replace (alpha + (1 - alpha) ^ (t + 2)) with (lambda * s) in Hd by (unfold lambda; field; lra).
      apply (f_equal (Rmult lambda)) in Hc. lra.
Qed.

Lemma factor_falls alpha t : 0 < alpha <= 1 ->
  0 < alpha + (1 - alpha) ^ (t + 1) /\ alpha + (1 - alpha) ^ (t + 2) <= alpha + (1 - alpha) ^ (t + 1) /\
  (alpha < 1 -> alpha + (1 - alpha) ^ (t + 2) < alpha + (1 - alpha) ^ (t + 1)).
Proof.
  intro Ha. assert (0 <= (1 - alpha) ^ (t + 1)) as F by (apply pow_le; lra).
  replace (t + 2)%nat with (S (t + 1)) by lia. simpl pow at 2 4. pose proof (Rmult_le_pos alpha _ ltac:(lra) F).
  repeat split; try lra. intro. assert (0 < (1 - alpha) ^ (t + 1)) as G by (apply pow_lt; lra).
  pose proof (Rmult_lt_0_compat alpha _ ltac:(lra) G). lra.
Qed.

Theorem T11_falls : forall n (A pi_0 : arm n -> R) alpha beta t,
  let last := pi_inf A pi_0 alpha beta in
  policy pi_0 -> 0 < alpha <= 1 -> 0 < beta ->
  KL last (reference A pi_0 alpha beta (t + 1)) <= KL last (reference A pi_0 alpha beta t).
Proof.
  intros n A pi_0 alpha beta t last P Ha Hb. subst last.
  pose proof (T11_rate n A pi_0 alpha beta t P Ha Hb) as T. cbv zeta in T.
  destruct (factor_falls alpha t Ha) as [F [G _]].
  destruct (pi_inf_policy n A pi_0 alpha beta P) as [Pi Si].
  destruct (reference_arms A pi_0 alpha beta t P) as [Pr Sr].
  assert (K : 0 <= KL (pi_inf A pi_0 alpha beta) (reference A pi_0 alpha beta t))
    by (apply KL_nonneg; trivial; intros y e; now apply Si, Sr).
  apply (Rmult_le_reg_l (alpha + (1 - alpha) ^ (t + 1))); trivial.
  apply Rle_trans with (1 := T). now apply Rmult_le_compat_r.
Qed.

(* Strictly, unless alpha = 1 or all arms of pi_0 are equally good. *)
Theorem T11_strict : forall n (A pi_0 : arm n -> R) alpha beta t y z,
  let last := pi_inf A pi_0 alpha beta in
  policy pi_0 -> 0 < alpha < 1 -> 0 < beta -> pi_0 y <> 0 -> pi_0 z <> 0 -> A y <> A z ->
  KL last (reference A pi_0 alpha beta (t + 1)) < KL last (reference A pi_0 alpha beta t).
Proof.
  intros n A pi_0 alpha beta t y z last P Ha Hb Ny Nz D. subst last.
  pose proof (T11_rate n A pi_0 alpha beta t P ltac:(lra) Hb) as T. cbv zeta in T.
  destruct (factor_falls alpha t ltac:(lra)) as [F [_ G]]. specialize (G ltac:(lra)).
  destruct (pi_inf_policy n A pi_0 alpha beta P) as [Pi Si].
  destruct (reference_arms A pi_0 alpha beta t P) as [Pr Sr].
  assert (lives : pi_inf A pi_0 alpha beta lives_on reference A pi_0 alpha beta t)
    by (intros x e; now apply Si, Sr).
  assert (K : 0 < KL (pi_inf A pi_0 alpha beta) (reference A pi_0 alpha beta t)).
  { apply pos; [ now apply KL_nonneg | ]. intro e. apply D.
    pose proof (proj1 (KL_zero n _ _ Pi Pr lives) e) as same.
    destruct (T11 n A pi_0 alpha beta t P ltac:(lra) Hb) as [c Hc].
    pose proof (Hc y Ny) as Hy. pose proof (Hc z Nz) as Hz. simpl in Hy, Hz.
    rewrite <- same, ln_pi_inf in Hy, Hz by trivial.
    assert (d : A y / (alpha * beta) = A z / (alpha * beta))
      by (apply (Rmult_eq_reg_l (alpha + (1 - alpha) ^ (t + 1))); lra).
    apply (Rmult_eq_reg_r (/ (alpha * beta))); trivial. apply Rinv_neq_0_compat.
    pose proof (Rmult_lt_0_compat alpha beta). lra. }
  apply (Rmult_lt_reg_l (alpha + (1 - alpha) ^ (t + 1))); trivial.
  apply Rle_lt_trans with (1 := T). now apply Rmult_lt_compat_r.
Qed.

(* It falls to its value at the factor alpha: the reference keeps its share of pi_0. *)
Lemma tilted_KL {n} (p d : arm n -> R) s : policy p ->
  KL p (normalise (fun y => p y * exp (s * d y))) = - s * E p d + ln (∑ y, p y * exp (s * d y)).
Proof.
  intros P. rewrite KL_normalise; trivial.
  - f_equal. unfold E. rewrite <- sum_scale. apply sum_ext. intro y.
    destruct (Req_dec (p y) 0) as [-> | N]; [ lra | ].
    rewrite ln_mult, ln_exp; [ lra | apply pos; trivial; apply P | apply exp_pos ].
  - intro. apply Rmult_le_pos; [ apply P | left; apply exp_pos ].
  - intros y e. pose proof (exp_pos (s * d y)). apply Rmult_integral in e. lra.
Qed.

Theorem T11_limit : forall n (A pi_0 : arm n -> R) alpha beta,
  let last := pi_inf A pi_0 alpha beta in
  policy pi_0 -> 0 < alpha <= 1 -> 0 < beta ->
  Un_cv (fun t => KL last (reference A pi_0 alpha beta t))
        (KL last (normalise (fun y => last y * exp (alpha * (ln (pi_0 y) - ln (last y)))))).
Proof.
  intros n A pi_0 alpha beta last P Ha Hb.
  destruct (pi_inf_policy n A pi_0 alpha beta P) as [Pi Si]. fold last in Pi, Si.
  set (d := fun y => ln (pi_0 y) - ln (last y)).
  set (G := fun s => - s * E last d + ln (∑ y, last y * exp (s * d y))).
  assert (positive : forall s, 0 < ∑ y, last y * exp (s * d y)).
  { intro s. apply (lives_on_sum last); trivial; [ intro; apply Rmult_le_pos; [ apply Pi | left; apply exp_pos ] | ].
    intros y e. pose proof (exp_pos (s * d y)). apply Rmult_integral in e. lra. }
  assert (value : forall t, KL last (reference A pi_0 alpha beta t) = G (alpha + (1 - alpha) ^ (t + 1))).
  { intro t. set (s := alpha + (1 - alpha) ^ (t + 1)). unfold G. rewrite <- tilted_KL by trivial.
    apply KL_ext; trivial. destruct (reference_arms A pi_0 alpha beta t P) as [Pr Sr].
    apply equal_up_to_normaliser; trivial.
    - apply normalise_policy; trivial. intro. apply Rmult_le_pos; [ apply Pi | left; apply exp_pos ].
    - intro y. rewrite (Sr y), <- (Si y), normalise_zero by trivial. pose proof (exp_pos (s * d y)).
      split; intro e; [ rewrite e; lra | apply Rmult_integral in e; lra ].
    - destruct (T11 n A pi_0 alpha beta t P ltac:(lra) Hb) as [c Hc].
      exists (c + ln (∑ y, last y * exp (s * d y))). intros y N.
      assert (N0 : pi_0 y <> 0) by (intro e; now apply N, Sr). specialize (Hc y N0). simpl in Hc. fold last s in Hc.
      assert (0 < last y) by (apply pos; [ apply Pi | intro e; now apply N0, Si ]).
      rewrite ln_normalise, ln_mult, ln_exp; auto using exp_pos, Rmult_lt_0_compat. unfold d. lra. }
  rewrite tilted_KL by trivial. fold d. change (- alpha * E last d + _) with (G alpha).
  assert (Un_cv (fun t => alpha + (1 - alpha) ^ (t + 1)) alpha) as cv.
  { intros eps He. destruct (pow_lt_1_zero (1 - alpha) ltac:(apply Rabs_def1; lra) eps He) as [t0 Ht].
    exists t0. intros t Hle. unfold R_dist.
    replace (alpha + (1 - alpha) ^ (t + 1) - alpha) with ((1 - alpha) ^ (t + 1)) by lra. apply Ht. lia. }
  apply (continuity_seq G) in cv.
  - intros eps He. destruct (cv eps He) as [t0 Ht]. exists t0. intros t Hle. rewrite value. now apply Ht.
  - unfold G. apply (continuity_pt_plus (fun s => - s * E last d) (fun s => ln (∑ y, last y * exp (s * d y)))).
    + apply (continuity_scale (fun s => - s)). apply (continuity_opp id), derivable_continuous, derivable_id.
    + apply (continuity_pt_comp (fun s => ∑ y, last y * exp (s * d y)) ln).
      * apply continuity_sum. intro y. apply (continuity_mult (fun _ => last y)); [ apply continuous_constant | ].
        apply (continuity_comp (fun s => s * d y) exp); [ apply (continuity_scale id) | ];
          apply derivable_continuous; [ apply derivable_id | apply derivable_exp ].
      * apply derivable_continuous_pt. exists (/ ∑ y, last y * exp (alpha * d y)). now apply derivable_pt_lim_ln.
Qed.
