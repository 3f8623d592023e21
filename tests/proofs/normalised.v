(* Batch normalisation: wherever a step with normalised advantages stands still, the policy is 1 / (alpha beta) nats
   from pi_0, counted as the standard deviation of log (pi / pi_0). The advantages do not matter. *)
From Coq Require Import Reals Lra.
From DAR Require Export t2.
Open Scope R_scope.

(* The variance of an affine function; p sees only its own arms. *)
Lemma variance_affine {n} (p f g : arm n -> R) a b : policy p -> (forall y, p y <> 0 -> g y = a * f y + b) ->
  variance p g = a ^ 2 * variance p f.
Proof.
  intros [_ S] H. assert (m : E p g = a * E p f + b).
  { unfold E. replace b with (b * sum p) by (rewrite S; lra). rewrite <- !sum_scale, <- sum_add.
    apply sum_ext. intro y.
    destruct (Req_dec (p y) 0) as [-> | N]; [ lra | rewrite H by trivial; lra ]. }
  unfold variance. rewrite m. set (e := E p f). unfold E. rewrite <- sum_scale. apply sum_ext. intro y.
  destruct (Req_dec (p y) 0) as [-> | N]; [ lra | rewrite H by trivial; lra ].
Qed.

Theorem normalised_fixed_point : forall n (A pi_0 pi : arm n -> R) alpha beta,
  policy pi_0 -> policy pi -> 0 < alpha -> 0 < beta -> 0 < sd pi A ->
  (forall y, pi_star (normalised A pi) pi_0 pi alpha beta y = pi y) ->
  sd pi (fun y => ln (pi y / pi_0 y)) = 1 / (alpha * beta).
Proof.
  intros n A pi_0 pi alpha beta [H0 _] P Ha Hb Hs fixed.
  assert (V : variance pi A = sd pi A ^ 2).
  { unfold sd in *. rewrite pow2_sqrt; trivial. apply sum_nonneg. intro.
    apply Rmult_le_pos; [ apply P | apply pow2_ge_0 ]. }
  unfold sd at 1. rewrite (variance_affine pi A _ (/ (sd pi A * (alpha * beta)))
    (- E pi A / (sd pi A * (alpha * beta)) - ln (M (normalised A pi) pi_0 pi alpha beta) / alpha)); trivial.
  - rewrite V. replace (_ * sd pi A ^ 2) with ((1 / (alpha * beta)) ^ 2) by (field; lra).
    apply sqrt_pow2. left. apply Rdiv_lt_0_compat; [ lra | now apply Rmult_lt_0_compat ].
  - intros y N. pose proof (f_equal ln (fixed y)) as e.
    assert (Nm : mix pi_0 pi alpha y <> 0).
    { intro z. apply N. rewrite <- fixed. unfold pi_star, normalise. rewrite z. lra. }
    assert (0 < pi y) by (apply pos; trivial; apply P).
    assert (0 < pi_0 y) by (apply pos; auto; intro z; apply Nm, mix_zero; left; split; [ trivial | lra ]).
    rewrite ln_pi_star in e by trivial. unfold normalised at 1 in e. rewrite ln_div by trivial.
    apply (Rmult_eq_reg_l alpha); [ | lra ].
    match goal with |- _ = ?x => replace x with
      ((A y - E pi A) / sd pi A / beta - ln (M (normalised A pi) pi_0 pi alpha beta)) by (field; lra) end. lra.
Qed.
