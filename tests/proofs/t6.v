(* T6: when the two balls meet. A negative margin proves that nothing is inside; a margin of at least 0 everywhere gives
   a policy inside; margin 0 leaves one policy. *)
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
Proof. rewrite mix_zero, !restrict_zero. assert (alpha <> 0 \/ 1 - alpha <> 0) by (destruct (Req_dec alpha 0); lra). tauto. Qed.

Lemma lives_on_S {n} (pi pi_0 pi_t : arm n -> R) alpha : pi lives_on pi_0 -> pi lives_on pi_t ->
  pi lives_on mix (restrict pi_0 pi_t) (restrict pi_t pi_0) alpha.
Proof. intros H0 Ht y e. apply mix_S_zero in e as [e | e]; auto. Qed.

(* Equation (1) of the page: T1 on S, at the ends too. *)
Theorem T6_identity : forall n (pi pi_0 pi_t : arm n -> R) alpha,
  policy pi -> policy pi_0 -> policy pi_t -> pi lives_on pi_0 -> pi lives_on pi_t ->
  alpha * KL pi pi_0 + (1 - alpha) * KL pi pi_t = KL pi (pi_ref_S pi_0 pi_t alpha) - ln (C_S pi_0 pi_t alpha).
Proof.
  intros n pi pi_0 pi_t alpha P P0 Pt H0 Ht. unfold pi_ref_S, C_S.
  rewrite <- dual_KL_is by auto using restrict_nonneg, lives_on_S. unfold dual_KL. now rewrite !KL_restrict.
Qed.

(* For 0 < alpha < 1 the sum over S is the C of T1. *)
Theorem C_S_is_C : forall n (pi_0 pi_t : arm n -> R) alpha, 0 < alpha < 1 -> C_S pi_0 pi_t alpha = C pi_0 pi_t alpha.
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
