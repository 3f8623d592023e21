(* T3 and T4: weighted maximum likelihood on samples of pi_t is a forward KL to a target. Without a clip the target is
   pi* of T2; with one it is another policy. *)
From Coq Require Import Reals Lra.
From DAR Require Export t2.
Open Scope R_scope.

(* One finite sum serves both: nothing is asked of the weights v but that they are not negative, and not all 0. *)
Theorem regression_gap : forall n (pi_t v pi : arm n -> R),
  policy pi_t -> policy pi -> (forall y, 0 <= v y) -> 0 < E pi_t v ->
  target pi_t v lives_on pi ->
  L pi_t v pi - L pi_t v (target pi_t v) = E pi_t v * KL (target pi_t v) pi.
Proof.
  intros n pi_t v pi [Ht _] [Hp _] Hv Hm H.
  assert (P : policy (target pi_t v)) by (apply normalise_policy; auto using Rmult_le_pos).
  rewrite <- (Rmult_1_l (KL _ _)), KL_split by auto.
  unfold L. replace (- E _ _ - - E _ _) with (E pi_t (fun y => v y * ln (target pi_t v y)) -
    E pi_t (fun y => v y * ln (pi y))) by lra.
  unfold E at 1 2. rewrite <- sum_sub, <- sum_scale. apply sum_ext. intro y.
  unfold target at 2, normalise. change (sum _) with (E pi_t v). field. lra.
Qed.

Theorem regression_minimum : forall n (pi_t v pi : arm n -> R),
  policy pi_t -> policy pi -> (forall y, 0 <= v y) -> 0 < E pi_t v ->
  target pi_t v lives_on pi ->
  L pi_t v (target pi_t v) <= L pi_t v pi /\
  (L pi_t v (target pi_t v) = L pi_t v pi -> forall y, pi y = target pi_t v y).
Proof.
  intros n pi_t v pi Pt P Hv Hm H. pose proof (regression_gap n pi_t v pi Pt P Hv Hm H) as G.
  assert (Pv : policy (target pi_t v))
    by (apply normalise_policy; [ intro; apply Rmult_le_pos; [ apply Pt | ] | ]; trivial).
  pose proof (Rmult_le_pos _ _ (Rlt_le _ _ Hm) (KL_nonneg n _ _ Pv P H)). split; [ lra | ].
  intros e y. symmetry. apply KL_zero; trivial. apply (Rmult_eq_reg_l (E pi_t v)); lra.
Qed.

Lemma power_ratio x y a : 0 <= x -> 0 < y -> y * (x / y) ^^ a = x ^^ a * y ^^ (1 - a).
Proof.
  intros Hx Hy. destruct (Req_dec x 0) as [-> | N].
  - unfold Rdiv. rewrite Rmult_0_l. unfold power. destruct (Req_EM_T 0 0); [ | lra ].
    destruct (Req_EM_T y 0); [ lra | ]. destruct (Req_EM_T a 0) as [-> | ]; [ | lra ].
    rewrite Rminus_0_r, Rpower_1 by trivial. lra.
  - assert (0 < x / y) by (apply Rdiv_lt_0_compat; trivial; now apply pos).
    unfold power. destruct (Req_EM_T x 0), (Req_EM_T y 0), (Req_EM_T (x / y) 0); try lra.
    rewrite <- (exp_ln y) at 1 by trivial. unfold Rpower. rewrite <- !exp_plus, ln_div by (trivial; now apply pos).
    f_equal. lra.
Qed.

Lemma w_nonneg {n} (A pi_0 pi_t : arm n -> R) alpha beta y : 0 <= w A pi_0 pi_t alpha beta y.
Proof. apply Rmult_le_pos; [ apply power_nonneg | left; apply exp_pos ]. Qed.

(* Samples of pi_t, weighted: the numerator of pi*, on the arms that pi_t plays. *)
Lemma weighted_sampler {n} (A pi_0 pi_t : arm n -> R) alpha beta y : 0 <= pi_0 y -> 0 < pi_t y ->
  pi_t y * w A pi_0 pi_t alpha beta y = mix pi_0 pi_t alpha y * exp (A y / beta).
Proof. intros. unfold w, mix. rewrite <- Rmult_assoc, power_ratio by trivial. lra. Qed.

(* What T3 asks for holds by itself unless alpha = 1: what is never sampled is never fitted. *)
Theorem T3_condition : forall n (A pi_0 pi_t : arm n -> R) alpha beta,
  alpha <> 1 -> pi_star A pi_0 pi_t alpha beta lives_on pi_t.
Proof.
  intros n A pi_0 pi_t alpha beta N y e. unfold pi_star, normalise.
  rewrite (proj2 (mix_zero _ _ _ _)) by (right; split; [ trivial | lra ]). lra.
Qed.

Lemma target_is_pi_star {n} (A pi_0 pi_t : arm n -> R) alpha beta :
  policy pi_0 -> policy pi_t -> 0 < C pi_0 pi_t alpha -> pi_star A pi_0 pi_t alpha beta lives_on pi_t ->
  E pi_t (w A pi_0 pi_t alpha beta) = M A pi_0 pi_t alpha beta /\
  forall y, target pi_t (w A pi_0 pi_t alpha beta) y = pi_star A pi_0 pi_t alpha beta y.
Proof.
  intros [H0 _] [Ht _] HC H.
  assert (W : forall y, pi_t y * w A pi_0 pi_t alpha beta y = mix pi_0 pi_t alpha y * exp (A y / beta)).
  { intro y. destruct (Req_dec (pi_t y) 0) as [e | N]; [ | now apply weighted_sampler, pos ].
    rewrite e, (proj1 (pi_star_zero A _ _ _ beta y HC)) by auto. lra. }
  assert (S : E pi_t (w A pi_0 pi_t alpha beta) = M A pi_0 pi_t alpha beta) by now apply sum_ext.
  split; trivial. intro y. unfold target, pi_star, normalise.
  change (sum (fun y => pi_t y * _ y)) with (E pi_t (w A pi_0 pi_t alpha beta)).
  now rewrite W, S.
Qed.

Theorem T3 : forall n (A pi_0 pi_t pi : arm n -> R) alpha beta,
  let v := w A pi_0 pi_t alpha beta in
  let best := pi_star A pi_0 pi_t alpha beta in
  policy pi -> policy pi_0 -> policy pi_t -> 0 < C pi_0 pi_t alpha ->
  best lives_on pi_t -> best lives_on pi ->
  L pi_t v pi - L pi_t v best = E pi_t v * KL best pi.
Proof.
  intros n A pi_0 pi_t pi alpha beta v best P P0 Pt HC Ht H. subst v best.
  destruct (target_is_pi_star A pi_0 pi_t alpha beta P0 Pt HC Ht) as [S T].
  assert (0 < E pi_t (w A pi_0 pi_t alpha beta)) by (rewrite S; now apply M_pos).
  pose proof (regression_gap n pi_t (w A pi_0 pi_t alpha beta) pi Pt P ltac:(intro; apply w_nonneg) ltac:(trivial)
    ltac:(intros y e; rewrite T; auto)) as G.
  rewrite (KL_ext _ _ pi pi T) in G by trivial. rewrite <- G. unfold L. f_equal. f_equal.
  apply E_ext; trivial. intro. now rewrite T.
Qed.

(* If pi_t misses arms of pi*, the target is pi* restricted to the arms of pi_t. (If it misses all, both are 0.) *)
Theorem T3_restricted : forall n (A pi_0 pi_t : arm n -> R) alpha beta,
  let v := w A pi_0 pi_t alpha beta in
  let best := pi_star A pi_0 pi_t alpha beta in
  policy pi_0 -> policy pi_t -> 0 < C pi_0 pi_t alpha ->
  forall y, target pi_t v y = normalise (restrict best pi_t) y.
Proof.
  intros n A pi_0 pi_t alpha beta v best [H0 _] [Ht _] HC y. subst v best. apply (M_pos A _ _ _ beta) in HC.
  assert (W : forall y, pi_t y * w A pi_0 pi_t alpha beta y =
                        M A pi_0 pi_t alpha beta * restrict (pi_star A pi_0 pi_t alpha beta) pi_t y).
  { intro z. unfold restrict. destruct (Req_EM_T (pi_t z) 0) as [e | N]; [ rewrite e; lra | ].
    rewrite weighted_sampler by auto using pos. unfold pi_star, normalise.
    change (sum _) with (M A pi_0 pi_t alpha beta). field. lra. }
  unfold target, normalise. rewrite W, (sum_ext _ _ _ W), sum_scale.
  destruct (Req_dec (sum (restrict (pi_star A pi_0 pi_t alpha beta) pi_t)) 0) as [e | N]; [ | field; lra ].
  rewrite e, Rmult_0_r. unfold Rdiv. rewrite Rinv_0. lra.
Qed.

Lemma clipped_nonneg {n} (A pi_0 pi_t : arm n -> R) alpha beta w_clip y :
  0 <= w_clip -> 0 <= clipped A pi_0 pi_t alpha beta w_clip y.
Proof. intro. unfold clipped. apply Rmin_glb; auto using w_nonneg. Qed.

Lemma clipped_mass {n} (A pi_0 pi_t : arm n -> R) alpha beta w_clip : policy pi_t -> 0 < w_clip ->
  0 < E pi_t (w A pi_0 pi_t alpha beta) -> 0 < E pi_t (clipped A pi_0 pi_t alpha beta w_clip).
Proof.
  intros [Ht _] Hc H. apply pos_term in H as [y Hy]. apply sum_pos with y.
  - intro. apply Rmult_le_pos; auto using clipped_nonneg, Rlt_le.
  - specialize (Ht y). pose proof (w_nonneg A pi_0 pi_t alpha beta y).
    apply Rmult_lt_0_compat; [ | apply Rmin_glb_lt; trivial ]; apply pos; trivial; intro e; rewrite e in Hy; lra.
Qed.

Theorem T4 : forall n (A pi_0 pi_t pi : arm n -> R) alpha beta w_clip,
  let v := clipped A pi_0 pi_t alpha beta w_clip in
  policy pi -> policy pi_t -> 0 < w_clip -> 0 < E pi_t (w A pi_0 pi_t alpha beta) ->
  target pi_t v lives_on pi ->
  L pi_t v pi - L pi_t v (target pi_t v) = E pi_t v * KL (target pi_t v) pi.
Proof. intros. subst v. apply regression_gap; auto using clipped_mass. intro. apply clipped_nonneg. lra. Qed.

(* Among arms at the clip the target keeps the proportions of pi_t. *)
Theorem T4_proportions : forall n (A pi_0 pi_t : arm n -> R) alpha beta w_clip y z,
  let v := clipped A pi_0 pi_t alpha beta w_clip in
  w_clip <= w A pi_0 pi_t alpha beta y -> w_clip <= w A pi_0 pi_t alpha beta z ->
  target pi_t v y * pi_t z = target pi_t v z * pi_t y.
Proof.
  intros. subst v. unfold target, normalise, clipped at 1 3. rewrite !Rmin_right by trivial. unfold Rdiv. lra.
Qed.

(* The clip moves the target: an arm above the clip has lower odds against one that is not than under pi*. *)
Theorem T4_moves : forall n (A pi_0 pi_t : arm n -> R) alpha beta w_clip y z,
  let v := clipped A pi_0 pi_t alpha beta w_clip in
  let best := pi_star A pi_0 pi_t alpha beta in
  policy pi_0 -> policy pi_t -> 0 < w_clip -> 0 < pi_t y -> 0 < pi_t z ->
  w_clip < w A pi_0 pi_t alpha beta y -> 0 < w A pi_0 pi_t alpha beta z <= w_clip ->
  target pi_t v y * best z < target pi_t v z * best y.
Proof.
  intros n A pi_0 pi_t alpha beta w_clip y z v best [H0 _] Pt Hc Hy Hz Wy Wz. subst v best. destruct Pt as [Ht St].
  assert (0 < M A pi_0 pi_t alpha beta) as HM.
  { apply sum_pos with y; [ intro; apply tilt_nonneg | ].
    rewrite <- weighted_sampler by auto. apply Rmult_lt_0_compat; lra. }
  assert (0 < E pi_t (clipped A pi_0 pi_t alpha beta w_clip)) as HE.
  { apply clipped_mass; trivial; [ now split | ]. apply sum_pos with y; [ | apply Rmult_lt_0_compat; lra ].
    intro. apply Rmult_le_pos; auto using w_nonneg. }
  unfold target, pi_star, normalise. rewrite <- !weighted_sampler by auto.
  change (sum (fun y => pi_t y * _ y)) with (E pi_t (clipped A pi_0 pi_t alpha beta w_clip)).
  change (sum (fun y => _ * exp _)) with (M A pi_0 pi_t alpha beta).
  unfold clipped at 1 3. rewrite (Rmin_right _ w_clip), (Rmin_left _ w_clip) by lra.
  apply Rminus_gt_0_lt. match goal with |- 0 < ?x => replace x with
    (pi_t y * pi_t z * w A pi_0 pi_t alpha beta z * (w A pi_0 pi_t alpha beta y - w_clip)
     / (E pi_t (clipped A pi_0 pi_t alpha beta w_clip) * M A pi_0 pi_t alpha beta)) by (field; lra) end.
  apply Rdiv_lt_0_compat; repeat match goal with |- 0 < _ * _ => apply Rmult_lt_0_compat end; lra.
Qed.
