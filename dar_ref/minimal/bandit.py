"""DAR on a bandit, the whole method in one file.

    python -m dar_ref.minimal.bandit

There are N prompts and A possible answers ("actions") to each. A policy is a table of log-probs, so every sum over
answers can be computed. One update of DAR has five steps, and each is a function below:

    sample      K answers y_i to each prompt, from the current policy, pi_t
    advantage   A_i = r_i - mean of its prompt's K rewards, divided by the std over the whole batch
    weight      w_i = min((pi_0 / pi_t)^alpha exp(A_i / beta), w_clip)
    fit         minimise -mean_i w_i log pi(y_i): supervised learning on the samples, with weights
    measure     KL(pi*‖pi), where pi* ∝ pi_0^alpha pi_t^(1-alpha) exp(A / beta) is the optimum of Theorem 4.2

pi_0 is the initial policy and never moves. pi_t is the policy that sampled, and pi the one that is fitted.

How this differs from the paper (arXiv 2602.11523):

1. The policy is a table. `llm.py`, the file beside this one, does the same with a language model.
2. beta is 1; the paper has 0.05. There, nearly half of the weights are clipped, and the clip moves the optimum. Here
   it is almost never reached, so Theorem 4.2 says where each update should end.
3. K is 256, so that the noise of the samples is small. A language model can afford about 4.
4. A fit goes on until the loss hardly falls. A language model takes one step, or a few, on each batch.
"""

import torch
from torch import Tensor

NUM_PROMPTS, NUM_ACTIONS, NUM_GENERATIONS = 16, 8, 256  # N, A, K
ALPHA, BETA, W_CLIP = 0.1, 1.0, 20.0
UPDATES, FIT_STEPS, LEARNING_RATE = 6, 100, 0.1


def sample(log_pi_t: Tensor, num_generations: int) -> Tensor:
    """K answers to each prompt, drawn from pi_t: (N, A) -> (N, K)."""
    return torch.multinomial(log_pi_t.exp(), num_generations, replacement=True)


def advantage(rewards: Tensor) -> Tensor:
    """Each reward minus the mean of its prompt, divided by the std of the whole batch: (N, K) -> (N, K)."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / centred.std(correction=0).clamp(min=1e-8)  # equal rewards: 0, not 0 / 0


def weight(
    ref_logps: Tensor, old_logps: Tensor, advantages: Tensor, *, alpha: float, beta: float, w_clip: float
) -> Tensor:
    """How much each sample counts. ref_logps: log pi_0(y_i); old_logps: log pi_t(y_i). All of one shape."""
    return (alpha * (ref_logps - old_logps) + advantages / beta).exp().clamp(max=w_clip)


def fit(log_pi_t: Tensor, actions: Tensor, weights: Tensor) -> Tensor:
    """The new policy, (N, A): start at pi_t and minimise -mean_i w_i log pi(y_i)."""
    logits = log_pi_t.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=LEARNING_RATE)
    for _ in range(FIT_STEPS):
        logps = logits.log_softmax(dim=1).gather(1, actions)  # (N, K)
        loss = -(weights * logps).mean()  # the weights are constants: no gradient runs through them
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return logits.detach().log_softmax(dim=1)


def optimum(log_pi_0: Tensor, log_pi_t: Tensor, reward: Tensor) -> Tensor:
    """pi* of Theorem 4.2, (N, A). Nothing is sampled here: advantages are means over all answers, weighted by pi_t."""
    centred = reward - expected(log_pi_t, reward)[:, None]  # (N, A)
    std = expected(log_pi_t, centred**2).mean().sqrt()
    return (ALPHA * log_pi_0 + (1 - ALPHA) * log_pi_t + centred / std / BETA).log_softmax(dim=1)


def expected(log_pi: Tensor, values: Tensor) -> Tensor:
    """The mean of values (N, A) under a policy (N, A): (N,)."""
    return (log_pi.exp() * values).sum(dim=1)


def kl(log_p: Tensor, log_q: Tensor) -> float:
    """KL(p‖q) in nats, the mean over prompts."""
    return expected(log_p, log_p - log_q).mean().item()


def main() -> None:
    """Draw a bandit, train a policy on it, and print a line for each update."""
    torch.manual_seed(0)
    reward = torch.randn(NUM_PROMPTS, NUM_ACTIONS, dtype=torch.float64)
    log_pi_0 = torch.randn(NUM_PROMPTS, NUM_ACTIONS, dtype=torch.float64).log_softmax(dim=1)
    log_pi = log_pi_0
    print("update   E[reward]   KL(pi‖pi_0)   KL(pi*‖pi): before the fit, after it")
    for update in range(1, UPDATES + 1):
        log_pi_t = log_pi
        actions = sample(log_pi_t, NUM_GENERATIONS)  # (N, K)
        advantages = advantage(reward.gather(1, actions))
        ref_logps, old_logps = log_pi_0.gather(1, actions), log_pi_t.gather(1, actions)
        weights = weight(ref_logps, old_logps, advantages, alpha=ALPHA, beta=BETA, w_clip=W_CLIP)
        log_pi = fit(log_pi_t, actions, weights)

        best = optimum(log_pi_0, log_pi_t, reward)  # each update has its own, since pi_t has moved
        figures = (expected(log_pi, reward).mean(), kl(log_pi, log_pi_0), kl(best, log_pi_t), kl(best, log_pi))
        print("{:6} {:11.3f} {:13.3f} {:26.4f} {:10.4f}".format(update, *figures))


if __name__ == "__main__":
    main()
