(* What the statements speak about. Whoever reads this file and a statement knows all that the statement says. What is
   fixed by the Variables of a section is an argument outside it: there C is C pi_0 pi_t alpha.

   A bandit has n arms: one prompt and its n possible answers. A policy gives each arm a probability, and may give 0.
   In the standard library ln x is 0 for x <= 0, so 0 * ln (0 / q) is 0, as it should be. Where a KL is infinite, KL
   below is a number without meaning: every statement that names a KL has a hypothesis that makes it finite, or gives
   it the weight 0. *)
From Coq Require Import Reals List.
From DAR Require Export sums.
Open Scope R_scope.

Definition policy {n} (p : arm n -> R) := (forall y, 0 <= p y) /\ sum p = 1.

(* p has no arm that q lacks: KL(p‖q) is finite. *)
Definition supported {n} (p q : arm n -> R) := forall y, q y = 0 -> p y = 0.
Notation "p 'lives_on' q" := (supported p q) (at level 70).

Definition E {n} (p f : arm n -> R) := ∑ y, p y * f y.

Definition KL {n} (p q : arm n -> R) := ∑ y, p y * ln (p y / q y).

(* log-sum-exp *)
Definition lse {n} (f : arm n -> R) := ln (∑ y, exp (f y)).

Definition normalise {n} (f : arm n -> R) (y : arm n) := f y / sum f.

(* p on the arms of q only. *)
Definition restrict {n} (p q : arm n -> R) y := if Req_EM_T (q y) 0 then 0 else p y.

(* x to the power a, with 0^0 = 1 and 0^a = 0 for every other a. *)
Definition power x a := if Req_EM_T x 0 then (if Req_EM_T a 0 then 1 else 0) else Rpower x a.
Infix "^^" := power (at level 30, right associativity).

Definition renyi {n} (p q : arm n -> R) a := / (a - 1) * ln (∑ y, p y ^^ a * q y ^^ (1 - a)).

Section Bandit.
  Context {n : nat}.
  Variables A pi_0 pi_t : arm n -> R. (* advantage, initial policy, current policy *)
  Variables alpha beta : R.

  Definition mix y := pi_0 y ^^ alpha * pi_t y ^^ (1 - alpha).
  Definition C := sum mix.
  Definition pi_ref := normalise mix.

  Definition dual_KL pi := alpha * KL pi pi_0 + (1 - alpha) * KL pi pi_t.
  Definition J pi := E pi A - beta * dual_KL pi.

  Definition M := ∑ y, mix y * exp (A y / beta).
  Definition pi_star := normalise (fun y => mix y * exp (A y / beta)).

  (* The regression of T3 and T4: weighted maximum likelihood on samples of pi_t. *)
  Definition w y := (pi_0 y / pi_t y) ^^ alpha * exp (A y / beta).
  Definition clipped w_clip y := Rmin (w y) w_clip.
  Definition L (v pi : arm n -> R) := - E pi_t (fun y => v y * ln (pi y)).
  Definition target (v : arm n -> R) := normalise (fun y => pi_t y * v y).
End Bandit.

(* T5 and T11: the same step again and again, with A held fixed. *)
Section Iteration.
  Context {n : nat}.
  Variables A pi_0 : arm n -> R.
  Variables alpha beta : R.

  Definition step pi := pi_star A pi_0 pi alpha beta.
  Fixpoint path start t := match t with O => start | S t => step (path start t) end.
  Definition pi_inf := normalise (fun y => pi_0 y * exp (A y / (alpha * beta))).

  (* The reference of step t, on the way from pi_0. *)
  Definition reference t := pi_ref pi_0 (path pi_0 t) alpha.

  Definition clipped_step w_clip pi := target pi (clipped A pi_0 pi alpha beta w_clip).
  Definition Z := (∑ y, pi_0 y * exp (A y / (alpha * beta))) ^^ alpha.
End Iteration.

(* Two logarithms that differ by one number on all arms of p: equal up to the normaliser. *)
Definition up_to_normaliser {n} (p f g : arm n -> R) := exists c, forall y, p y <> 0 -> f y = g y + c.
Notation "f ≃ g 'on' p" := (up_to_normaliser p f g) (at level 70, g at next level).

Definition same_arms {n} (p q : arm n -> R) := forall y, p y = 0 <-> q y = 0.

(* T6 and T7: the policies within e_0 nats of pi_0 and e_t nats of pi_t. They live on the common support S of the two
   anchors, so the sums run over S. *)
Section Region.
  Context {n : nat}.
  Variables pi_0 pi_t : arm n -> R.
  Variables e_0 e_t : R.

  Definition in_region pi :=
    policy pi /\ (pi lives_on pi_0 /\ KL pi pi_0 <= e_0) /\ (pi lives_on pi_t /\ KL pi pi_t <= e_t).

  Definition C_S alpha := C (restrict pi_0 pi_t) (restrict pi_t pi_0) alpha.
  Definition pi_ref_S alpha := pi_ref (restrict pi_0 pi_t) (restrict pi_t pi_0) alpha.
  Definition pi_star_S A alpha beta := pi_star A (restrict pi_0 pi_t) (restrict pi_t pi_0) alpha beta.

  Definition margin alpha := alpha * e_0 + (1 - alpha) * e_t + ln (C_S alpha).

  (* T7: the best policy inside, by definition and by the conditions of its multipliers l_0 and l_t. *)
  Definition best_in_region A best := in_region best /\ forall pi, in_region pi -> E pi A <= E best A.

  Definition multipliers A l_0 l_t best :=
    0 <= l_0 /\ 0 <= l_t /\ in_region best /\
    l_0 * (e_0 - KL best pi_0) = 0 /\ l_t * (e_t - KL best pi_t) = 0 /\
    (0 < l_0 + l_t -> forall y, best y = pi_star_S A (l_0 / (l_0 + l_t)) (l_0 + l_t) y) /\
    (l_0 + l_t = 0 -> forall pi, policy pi -> pi lives_on pi_0 -> pi lives_on pi_t -> E pi A <= E best A).
End Region.

(* T10: the mean of f over k independent samples of p, by going through all lists of k arms. *)
Fixpoint draws {n} (p : arm n -> R) k (f : list (arm n) -> R) :=
  match k with
  | O => f nil
  | S k => ∑ y, p y * draws p k (fun ys => f (y :: ys)%list)
  end.

Fixpoint total {n} (f : arm n -> R) (ys : list (arm n)) :=
  match ys with nil => 0 | (y :: ys)%list => f y + total f ys end.

Definition mean {n} (f : arm n -> R) ys := total f ys / INR (length ys).

Section Samples.
  Context {n : nat}.
  Variables r pi_0 pi_t : arm n -> R. (* r is the reward *)
  Variables alpha beta : R.

  (* The advantage of sample y among the samples ys: reward minus a baseline. *)
  Definition group_advantage ys y := r y - mean r ys.
  Definition leave_one_out_advantage ys y := r y - (total r ys - r y) / (INR (length ys) - 1).

  (* The expected loss of K samples, unclipped and unnormalised. *)
  Definition sampled_loss (advantage : list (arm n) -> arm n -> R) K (pi : arm n -> R) :=
    draws pi_t K (fun ys =>
      - mean (fun y => (pi_0 y / pi_t y) ^^ alpha * exp (advantage ys y / beta) * ln (pi y)) ys).
End Samples.

(* The practical loss divides the centred advantage by its standard deviation. *)
Definition variance {n} (p f : arm n -> R) := E p (fun y => (f y - E p f) ^ 2).
Definition sd {n} (p f : arm n -> R) := sqrt (variance p f).
Definition normalised {n} (A p : arm n -> R) y := (A y - E p A) / sd p A.
