(* Finite sums over the n arms of a bandit, and the few facts about them that the other files use.

   An arm is a number below n (Fin.t n of the standard library), so a sum needs no bound and no side condition. *)
From Coq Require Import Reals Lra.
From Coq Require Fin.
Open Scope R_scope.

Notation arm := Fin.t.

Fixpoint sum {n} : (arm n -> R) -> R :=
  match n with
  | O => fun _ => 0
  | S _ => fun f => f Fin.F1 + sum (fun y => f (Fin.FS y))
  end.

(* Binds like a product: ∑ y, p y * f y - c is the sum, minus c. *)
Notation "∑ y , t" := (sum (fun y => t)) (at level 41, y name, t at level 40).

(* To prove something for every arm of n + 1: the first, and those after it. *)
Ltac each_arm y := pattern y; apply (Fin.caseS' y); clear y.

Lemma sum_ext : forall n (f g : arm n -> R), (forall y, f y = g y) -> sum f = sum g.
Proof. induction n; intros; simpl; [ | f_equal; auto ]; trivial. Qed.

Lemma sum_zero : forall n (f : arm n -> R), (forall y, f y = 0) -> sum f = 0.
Proof. induction n; intros; simpl; [ | rewrite H, IHn by auto ]; lra. Qed.

Lemma sum_add : forall n (f g : arm n -> R), ∑ y, (f y + g y) = sum f + sum g.
Proof. induction n; intros; simpl; [ | rewrite IHn ]; lra. Qed.

Lemma sum_scale : forall n c (f : arm n -> R), ∑ y, (c * f y) = c * sum f.
Proof. induction n; intros; simpl; [ | rewrite IHn ]; lra. Qed.

Lemma sum_sub : forall n (f g : arm n -> R), ∑ y, (f y - g y) = sum f - sum g.
Proof. induction n; intros; simpl; [ | rewrite IHn ]; lra. Qed.

Lemma sum_swap : forall n m (f : arm n -> arm m -> R), ∑ y, (∑ z, f y z) = ∑ z, (∑ y, f y z).
Proof.
  induction n; intros; simpl; [ symmetry; now apply sum_zero | ].
  now rewrite IHn, sum_add.
Qed.

Lemma sum_le : forall n (f g : arm n -> R), (forall y, f y <= g y) -> sum f <= sum g.
Proof. induction n; intros; simpl; [ | apply Rplus_le_compat; auto ]; lra. Qed.

(* Equal sums of ordered terms have equal terms. *)
Lemma sum_le_eq : forall n (f g : arm n -> R), (forall y, f y <= g y) -> sum f = sum g -> forall y, f y = g y.
Proof.
  induction n; intros f g H e y; [ inversion y | ].
  simpl in e. pose proof (H Fin.F1).
  pose proof (sum_le _ (fun y => f (Fin.FS y)) (fun y => g (Fin.FS y)) (fun _ => H _)).
  each_arm y; [ lra | ].
  apply (IHn (fun y => f (Fin.FS y)) (fun y => g (Fin.FS y))); [ auto | lra ].
Qed.

Lemma sum_nonneg : forall n (f : arm n -> R), (forall y, 0 <= f y) -> 0 <= sum f.
Proof. intros. rewrite <- (sum_zero n (fun _ => 0)) by trivial. now apply sum_le. Qed.

Lemma term_le_sum : forall n (f : arm n -> R), (forall y, 0 <= f y) -> forall y, f y <= sum f.
Proof.
  induction n; intros f H y; [ inversion y | ]. simpl.
  pose proof (H Fin.F1). pose proof (sum_nonneg _ (fun y => f (Fin.FS y)) (fun _ => H _)).
  each_arm y; [ lra | intro y ].
  pose proof (IHn (fun y => f (Fin.FS y)) (fun _ => H _) y). simpl in *. lra.
Qed.

Lemma sum_pos : forall n (f : arm n -> R), (forall y, 0 <= f y) -> forall y, 0 < f y -> 0 < sum f.
Proof. intros. pose proof (term_le_sum n f H y). lra. Qed.

Lemma pos : forall x, 0 <= x -> x <> 0 -> 0 < x.
Proof. intros x [ L | e ] N; [ trivial | congruence ]. Qed.

(* A positive sum has a positive term. *)
Lemma pos_term : forall n (f : arm n -> R), 0 < sum f -> exists y, 0 < f y.
Proof.
  induction n; intros f H; simpl in H; [ lra | ].
  destruct (Rlt_dec 0 (f Fin.F1)); [ now exists Fin.F1 | ].
  destruct (IHn (fun y => f (Fin.FS y))) as [y Hy]; [ lra | now exists (Fin.FS y) ].
Qed.

(* A sum of continuous functions is continuous. *)
Lemma continuity_ext : forall f g : R -> R, (forall a, f a = g a) -> continuity f -> continuity g.
Proof.
  intros f g e H a eps He. destruct (H a eps He) as [d [Hd D]]. exists d. split; trivial.
  intros b Hb. rewrite <- !e. now apply D.
Qed.

Lemma continuous_constant : forall c, continuity (fun _ => c).
Proof. intro. apply continuity_const. now intros a b. Qed.

Lemma continuity_sum : forall n (f : R -> arm n -> R),
  (forall y, continuity (fun a => f a y)) -> continuity (fun a => sum (f a)).
Proof.
  induction n; intros f H; simpl.
  - apply continuous_constant.
  - now apply (continuity_plus (fun a => f a Fin.F1) (fun a => ∑ y, f a (Fin.FS y))); [ | apply IHn ].
Qed.

Lemma continuity_scale : forall (f : R -> R) c, continuity f -> continuity (fun a => f a * c).
Proof. intros f c H. apply (continuity_mult f (fun _ => c)); trivial. apply continuous_constant. Qed.
