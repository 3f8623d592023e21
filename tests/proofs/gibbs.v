(* Gibbs' inequality: a KL is never negative, and 0 only between equal policies. Everything else rests on it. *)
From Coq Require Import Reals Lra.
From DAR Require Export bandit.
Open Scope R_scope.

(* ln x <= x - 1, with equality only at 1. *)
Lemma ln_below_line : forall x, 0 < x -> ln x <= x - 1.
Proof. intros. pose proof (exp_ineq1_le (ln x)). rewrite exp_ln in * by trivial. lra. Qed.

Lemma ln_on_line : forall x, 0 < x -> ln x = x - 1 -> x = 1.
Proof.
  intros. destruct (Req_dec (ln x) 0); [ lra | ].
  pose proof (exp_ineq1 (ln x) ltac:(trivial)). rewrite exp_ln in * by trivial. lra.
Qed.

Lemma ln_div : forall x y, 0 < x -> 0 < y -> ln (x / y) = ln x - ln y.
Proof.
  intros. unfold Rdiv. now rewrite ln_mult, ln_Rinv by auto using Rinv_0_lt_compat.
Qed.

Lemma ln_le : forall x y, 0 < x -> x <= y -> ln x <= ln y.
Proof. intros x y Hx [H | ->]; [ left; now apply ln_increasing | lra ]. Qed.

(* One arm of Gibbs' inequality. *)
Lemma arm_le : forall p q, 0 <= p -> 0 <= q -> (q = 0 -> p = 0) -> p - q <= p * ln (p / q).
Proof.
  intros p q Hp Hq H. destruct (Req_dec p 0) as [-> | N]; [ lra | ].
  assert (0 < p /\ 0 < q) as [P Q] by (split; apply pos; tauto).
  pose proof (ln_below_line (q / p) (Rdiv_lt_0_compat q p Q P)) as G.
  rewrite ln_div in * by trivial. apply (Rmult_le_compat_l p) in G; trivial.
  replace (p * (q / p - 1)) with (q - p) in G by (field; trivial). lra.
Qed.

Lemma arm_eq : forall p q, 0 <= p -> 0 <= q -> (q = 0 -> p = 0) -> p - q = p * ln (p / q) -> p = q.
Proof.
  intros p q Hp Hq H e. destruct (Req_dec p 0) as [-> | N]; [ lra | ].
  assert (0 < p /\ 0 < q) as [P Q] by (split; apply pos; tauto).
  assert (G : q / p = 1).
  - apply ln_on_line; [ now apply Rdiv_lt_0_compat | ].
    rewrite ln_div in * by trivial. apply (Rmult_eq_reg_l p); trivial.
    replace (p * (q / p - 1)) with (q - p) by (field; trivial). lra.
  - replace q with (q / p * p) by (field; trivial). rewrite G. lra.
Qed.

Theorem KL_nonneg : forall n (p q : arm n -> R),
  policy p -> policy q -> p lives_on q -> 0 <= KL p q.
Proof.
  intros n p q [Hp Sp] [Hq Sq] H. replace 0 with (∑ y, (p y - q y)) by (rewrite sum_sub; lra).
  apply sum_le; auto using arm_le.
Qed.

Theorem KL_zero : forall n (p q : arm n -> R), policy p -> policy q -> p lives_on q ->
  (KL p q = 0 <-> forall y, p y = q y).
Proof.
  intros n p q [Hp Sp] [Hq Sq] H. split; intros e.
  - intro y. apply arm_eq; auto. apply (sum_le_eq n (fun y => p y - q y) (fun y => p y * ln (p y / q y)));
      auto using arm_le. rewrite sum_sub. unfold KL in e. lra.
  - apply sum_zero. intro y. rewrite <- e. destruct (Req_dec (p y) 0) as [-> | ]; [ lra | ].
    unfold Rdiv. rewrite Rinv_r, ln_1; lra.
Qed.

(* Policies made by a normaliser. *)
Lemma normalise_policy {n} (f : arm n -> R) : (forall y, 0 <= f y) -> 0 < sum f -> policy (normalise f).
Proof.
  intros Hf S. split.
  - intro. now apply Rmult_le_pos; [ | left; apply Rinv_0_lt_compat ].
  - unfold normalise, Rdiv. rewrite (sum_ext _ _ (fun y => / sum f * f y)) by (intro; lra).
    rewrite sum_scale. field. lra.
Qed.

Lemma normalise_zero {n} (f : arm n -> R) y : 0 < sum f -> normalise f y = 0 <-> f y = 0.
Proof.
  intros S. unfold normalise. split; intro e; [ | rewrite e; lra ].
  replace (f y) with (f y / sum f * sum f) by (field; lra). rewrite e. lra.
Qed.

Lemma ln_normalise {n} (f : arm n -> R) y : 0 < sum f -> 0 < f y -> ln (normalise f y) = ln (f y) - ln (sum f).
Proof. intros. unfold normalise. now apply ln_div. Qed.

(* A policy that lives on f has an arm in it. *)
Lemma lives_on_sum {n} (p f : arm n -> R) : policy p -> (forall y, 0 <= f y) -> p lives_on f -> 0 < sum f.
Proof.
  intros [Hp Sp] Hf H. destruct (pos_term n p) as [y Hy]; [ rewrite Sp; lra | ].
  apply (sum_pos n f Hf y). destruct (Req_dec (f y) 0) as [e | ]; [ apply H in e; lra | now apply pos ].
Qed.

(* Where a KL is finite, its logarithm splits. The weight a is there for a = 0: then the KL may be infinite. *)
Lemma KL_split {n} a (p q : arm n -> R) :
  policy p -> (forall y, 0 <= q y) -> (a <> 0 -> p lives_on q) ->
  a * KL p q = ∑ y, p y * (a * (ln (p y) - ln (q y))).
Proof.
  intros [Hp _] Hq H. unfold KL. rewrite <- sum_scale. apply sum_ext. intro y.
  destruct (Req_dec a 0) as [-> | Ha]; [ lra | ]. destruct (Req_dec (p y) 0) as [-> | Hy]; [ lra | ].
  specialize (H Ha y). rewrite ln_div by (apply pos; auto). lra.
Qed.

Lemma KL_normalise {n} (p f : arm n -> R) :
  policy p -> (forall y, 0 <= f y) -> p lives_on f ->
  KL p (normalise f) = ∑ y, p y * (ln (p y) - ln (f y)) + ln (sum f).
Proof.
  intros Pp Hf H. pose proof (lives_on_sum p f Pp Hf H) as S.
  destruct (normalise_policy f Hf S) as [Hn _].
  rewrite <- (Rmult_1_l (KL _ _)), KL_split; auto;
    [ | intros _ y e; apply H; now apply normalise_zero ].
  destruct Pp as [Hp Sp].
  replace (ln (sum f)) with (ln (sum f) * sum p) by (rewrite Sp; lra).
  rewrite <- sum_scale, <- sum_add. apply sum_ext. intro y.
  destruct (Req_dec (p y) 0) as [-> | ]; [ lra | ]. specialize (H y).
  unfold normalise. rewrite ln_div by (trivial; apply pos; auto). lra.
Qed.

Lemma E_ext {n} (p q f g : arm n -> R) : (forall y, p y = q y) -> (forall y, f y = g y) -> E p f = E q g.
Proof. intros e1 e2. apply sum_ext. intro. now rewrite e1, e2. Qed.

Lemma KL_ext {n} (p p' q q' : arm n -> R) : (forall y, p y = p' y) -> (forall y, q y = q' y) -> KL p q = KL p' q'.
Proof. intros e1 e2. apply sum_ext. intro. now rewrite e1, e2. Qed.

(* The usual form of Gibbs' inequality: no other policy codes p in fewer nats. *)
Theorem gibbs : forall n (p q : arm n -> R), policy p -> policy q -> p lives_on q ->
  - E p (fun y => ln (p y)) <= - E p (fun y => ln (q y)).
Proof.
  intros n p q Pp Pq H. pose proof (KL_nonneg n p q Pp Pq H) as K.
  rewrite <- (Rmult_1_l (KL _ _)), KL_split in K; trivial; [ | apply Pq ].
  rewrite (sum_ext _ _ (fun y => p y * ln (p y) - p y * ln (q y))), sum_sub in K by (intro; lra).
  unfold E. lra.
Qed.

(* log-sum-exp is the normaliser of a softmax, and the largest value of mean plus entropy. *)
Theorem lse_normalises : forall n (f p : arm n -> R),
  policy p -> ∑ y, exp (f y - lse f) = 1.
Proof.
  intros n f p [Hp Sp]. destruct (pos_term n p) as [y _]; [ rewrite Sp; lra | ].
  assert (0 < ∑ y, exp (f y)) by (apply sum_pos with y; intros; auto using exp_pos, Rlt_le).
  rewrite (sum_ext _ _ (fun y => exp (- lse f) * exp (f y))) by (intro; rewrite <- exp_plus; f_equal; lra).
  rewrite sum_scale, exp_Ropp. unfold lse. rewrite exp_ln by trivial. field. lra.
Qed.

Theorem lse_gap : forall n (f p : arm n -> R), policy p ->
  lse f - (E p f - E p (fun y => ln (p y))) = KL p (normalise (fun y => exp (f y))).
Proof.
  intros n f p Pp. rewrite KL_normalise; trivial.
  - rewrite (sum_ext _ _ (fun y => p y * ln (p y) - p y * f y)) by (intro; rewrite ln_exp; lra).
    rewrite sum_sub. unfold lse, E. lra.
  - intro. left. apply exp_pos.
  - intros y e. pose proof (exp_pos (f y)). lra.
Qed.
