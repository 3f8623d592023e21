(* T10: the group mean contains its own sample, so K samples fit pi* at beta K / (K - 1). *)
From Coq Require Import Reals Lra Lia List.
From DAR Require Export t3_t4.
Open Scope R_scope.

Lemma total_app {n} (f : arm n -> R) ys zs : total f (ys ++ zs) = total f ys + total f zs.
Proof. induction ys; simpl; lra. Qed.

Lemma total_scale {n} c (f : arm n -> R) ys : total (fun y => c * f y) ys = c * total f ys.
Proof. induction ys; simpl; lra. Qed.

(* Wherever sample y stands among the samples: its advantage is (K - 1) / K times that against the others. *)
Theorem T10_identity : forall n (r : arm n -> R) y ys zs, (1 <= length (ys ++ zs))%nat ->
  let K := INR (length (ys ++ y :: zs)) in
  group_advantage r (ys ++ y :: zs) y = (K - 1) / K * (r y - mean r (ys ++ zs)).
Proof.
  intros n r y ys zs H K. unfold group_advantage, mean.
  assert (e : K = INR (length (ys ++ zs)) + 1) by (unfold K; rewrite !app_length, <- S_INR; f_equal; simpl; lia).
  fold K. rewrite e, !total_app. simpl. apply le_INR in H. simpl in H. field. lra.
Qed.

Lemma draws_ext {n} (p : arm n -> R) k f g :
  (forall ys, length ys = k -> f ys = g ys) -> draws p k f = draws p k g.
Proof.
  revert f g. induction k; intros f g H; simpl; [ auto | ].
  apply sum_ext. intro y. f_equal. apply IHk. intros. apply H. simpl. lia.
Qed.

Lemma draws_add {n} (p : arm n -> R) k f g : draws p k (fun ys => f ys + g ys) = draws p k f + draws p k g.
Proof.
  revert f g. induction k; intros; simpl; trivial. rewrite <- sum_add. apply sum_ext. intro. rewrite IHk. lra.
Qed.

Lemma draws_scale {n} (p : arm n -> R) k c f : draws p k (fun ys => c * f ys) = c * draws p k f.
Proof.
  revert f. induction k; intros; simpl; trivial. rewrite <- sum_scale. apply sum_ext. intro. rewrite IHk. lra.
Qed.

Lemma draws_swap {n m} (p : arm n -> R) k (f : arm m -> list (arm n) -> R) :
  draws p k (fun ys => ∑ z, f z ys) = ∑ z, draws p k (f z).
Proof.
  revert f. induction k; intros; simpl; trivial. rewrite <- sum_swap. apply sum_ext. intro y.
  rewrite IHk, <- sum_scale. trivial.
Qed.

Lemma draws_pos {n} (p : arm n -> R) k f : policy p -> (forall ys, 0 < f ys) -> 0 < draws p k f.
Proof.
  intros [Hp Sp]. revert f. induction k; intros f H; simpl; trivial.
  destruct (pos_term n p) as [y Hy]; [ lra | ].
  apply sum_pos with y; intros; [ apply Rmult_le_pos | apply Rmult_lt_0_compat ]; auto using Rlt_le.
Qed.

(* The samples are alike: what depends on one of them and the total of all is K times the same for the first. *)
Lemma draws_total {n} (p r : arm n -> R) k (h : arm n -> R -> R) :
  draws p (S k) (fun ys => total (fun y => h y (total r ys)) ys) =
  INR (S k) * ∑ y, (p y * draws p k (fun ys => h y (r y + total r ys))).
Proof.
  revert h. induction k; intro h.
  - simpl. rewrite Rmult_1_l. apply sum_ext. intro. f_equal. lra.
  - change (draws p (S (S k)) ?f) with (∑ y, p y * draws p (S k) (fun ys => f (y :: ys)%list)).
    rewrite (sum_ext _ _ (fun y => p y * draws p (S k) (fun ys => h y (r y + total r ys)) +
      p y * draws p (S k) (fun ys => total (fun z => h z (r y + total r ys)) ys))).
    2: { intro y. rewrite <- Rmult_plus_distr_l, <- draws_add. reflexivity. }
    rewrite sum_add, (S_INR (S k)), Rmult_plus_distr_r, Rmult_1_l, Rplus_comm. f_equal.
    rewrite (sum_ext _ _ (fun y => INR (S k) *
      ∑ z, (p y * (p z * draws p k (fun ys => h z (r y + (r z + total r ys))))))).
    2: { intro y. rewrite (IHk (fun z s => h z (r y + s))), sum_scale. lra. }
    rewrite sum_scale, sum_swap. f_equal. apply sum_ext. intro z.
    simpl draws. rewrite <- sum_scale. apply sum_ext. intro y.
    rewrite (draws_ext p k _ (fun ys => h z (r z + (r y + total r ys)))); [ lra | ].
    intros. f_equal. lra.
Qed.

(* So the expected loss of K samples is a regression, if the others act on the weight by a factor alone. *)
Lemma sampled_is_regression {n} (r pi_0 pi_t : arm n -> R) alpha beta b advantage k (g : R -> R) pi :
  (forall y s, exp (advantage y (r y + s) / beta) = exp (r y / b) * g s) ->
  draws pi_t (S k) (fun ys => - mean (fun y =>
    (pi_0 y / pi_t y) ^^ alpha * exp (advantage y (total r ys) / beta) * ln (pi y)) ys) =
  draws pi_t k (fun ys => g (total r ys)) * L pi_t (w r pi_0 pi_t alpha b) pi.
Proof.
  intro H.
  rewrite (draws_ext pi_t (S k) _ (fun ys => - / INR (S k) * total (fun y =>
    (fun y s => (pi_0 y / pi_t y) ^^ alpha * exp (advantage y s / beta) * ln (pi y)) y (total r ys)) ys)).
  2: { intros ys e. unfold mean. rewrite e. unfold Rdiv. lra. }
  rewrite draws_scale, (draws_total pi_t r k
    (fun y s => (pi_0 y / pi_t y) ^^ alpha * exp (advantage y s / beta) * ln (pi y))).
  rewrite (sum_ext _ _ (fun y =>
    draws pi_t k (fun ys => g (total r ys)) * (pi_t y * (w r pi_0 pi_t alpha b y * ln (pi y))))).
  - rewrite sum_scale. unfold L, E. field. apply not_0_INR. lia.
  - intro y. rewrite (draws_ext pi_t k _ (fun ys => w r pi_0 pi_t alpha b y * ln (pi y) * g (total r ys))).
    + rewrite draws_scale. lra.
    + intros. rewrite H. unfold w. lra.
Qed.

(* With the group mean as baseline the expected loss of K samples is a KL to pi* at beta K / (K - 1). *)
Theorem T10 : forall n (r pi_0 pi_t : arm n -> R) alpha beta K,
  let best := pi_star r pi_0 pi_t alpha (beta * INR K / (INR K - 1)) in
  let loss := sampled_loss pi_0 pi_t alpha beta (group_advantage r) K in
  policy pi_0 -> policy pi_t -> 0 < beta -> (2 <= K)%nat -> 0 < C pi_0 pi_t alpha ->
  best lives_on pi_t ->
  exists mass, 0 < mass /\ forall pi, policy pi -> best lives_on pi ->
    loss pi - loss best = mass * KL best pi.
Proof.
  intros n r pi_0 pi_t alpha beta K best loss P0 Pt Hb HK HC Hbest.
  destruct K as [ | k]; [ lia | ]. assert (Hk : 1 <= INR k) by (apply (le_INR 1); lia).
  assert (b : 0 < beta * INR (S k) / (INR (S k) - 1)).
  { rewrite S_INR. apply Rdiv_lt_0_compat; [ apply Rmult_lt_0_compat | ]; lra. }
  set (c := draws pi_t k (fun ys => exp (- total r ys / (INR (S k) * beta)))).
  assert (Hc : 0 < c) by (apply draws_pos; trivial; intro; apply exp_pos).
  assert (is_L : forall pi, loss pi =
    c * L pi_t (w r pi_0 pi_t alpha (beta * INR (S k) / (INR (S k) - 1))) pi).
  { intro pi. unfold loss, sampled_loss, group_advantage.
    rewrite (draws_ext pi_t (S k) _ (fun ys => - mean (fun y => (pi_0 y / pi_t y) ^^ alpha *
      exp ((fun y s => r y - s / INR (S k)) y (total r ys) / beta) * ln (pi y)) ys)).
    - apply (sampled_is_regression r pi_0 pi_t alpha beta _ (fun y s => r y - s / INR (S k)) k
        (fun s => exp (- s / (INR (S k) * beta)))).
      intros y s. rewrite <- exp_plus. f_equal. rewrite S_INR. field. lra.
    - intros ys e. unfold mean at 2. now rewrite e. }
  exists (c * E pi_t (w r pi_0 pi_t alpha (beta * INR (S k) / (INR (S k) - 1)))). split.
  - apply Rmult_lt_0_compat; trivial. destruct (target_is_pi_star r pi_0 pi_t alpha _ P0 Pt HC Hbest) as [-> _].
    now apply M_pos.
  - intros pi P Hp. rewrite !is_L, <- Rmult_minus_distr_l, Rmult_assoc. f_equal. now apply T3.
Qed.

(* With the mean of the others it is a KL to pi* at beta. *)
Theorem T10_leave_one_out : forall n (r pi_0 pi_t : arm n -> R) alpha beta K,
  let best := pi_star r pi_0 pi_t alpha beta in
  let loss := sampled_loss pi_0 pi_t alpha beta (leave_one_out_advantage r) K in
  policy pi_0 -> policy pi_t -> 0 < beta -> (2 <= K)%nat -> 0 < C pi_0 pi_t alpha ->
  best lives_on pi_t ->
  exists mass, 0 < mass /\ forall pi, policy pi -> best lives_on pi ->
    loss pi - loss best = mass * KL best pi.
Proof.
  intros n r pi_0 pi_t alpha beta K best loss P0 Pt Hb HK HC Hbest.
  destruct K as [ | k]; [ lia | ]. assert (Hk : 1 <= INR k) by (apply (le_INR 1); lia).
  set (c := draws pi_t k (fun ys => exp (- total r ys / (INR k * beta)))).
  assert (Hc : 0 < c) by (apply draws_pos; trivial; intro; apply exp_pos).
  assert (is_L : forall pi, loss pi =
    c * L pi_t (w r pi_0 pi_t alpha beta) pi).
  { intro pi. unfold loss, sampled_loss, leave_one_out_advantage.
    rewrite (draws_ext pi_t (S k) _ (fun ys => - mean (fun y => (pi_0 y / pi_t y) ^^ alpha *
      exp ((fun y s => r y - (s - r y) / (INR (S k) - 1)) y (total r ys) / beta) * ln (pi y)) ys)).
    - apply (sampled_is_regression r pi_0 pi_t alpha beta _ (fun y s => r y - (s - r y) / (INR (S k) - 1)) k
        (fun s => exp (- s / (INR k * beta)))).
      intros y s. rewrite <- exp_plus. f_equal. rewrite S_INR. field. lra.
    - intros ys e. now rewrite e. }
  exists (c * E pi_t (w r pi_0 pi_t alpha beta)). split.
  - apply Rmult_lt_0_compat; trivial. destruct (target_is_pi_star r pi_0 pi_t alpha _ P0 Pt HC Hbest) as [-> _].
    now apply M_pos.
  - intros pi P Hp. rewrite !is_L, <- Rmult_minus_distr_l, Rmult_assoc. f_equal. now apply T3.
Qed.
