"""Chains of nodes: what the fused kernels solve is what plain torch and the whole matrix say."""

import numpy as np
import torch

from nwb_lrrnn.models.low_rank import chain


def chains(n_nodes=(4, 1, 3), rank=2):
    """Return chains of several lengths, and the whole matrix and right-hand side of each of two networks."""
    rng = np.random.default_rng(0)
    most = max(n_nodes)
    diagonal = np.tile(np.eye(rank), (2, len(n_nodes), most, 1, 1))
    upper, gradient = np.zeros_like(diagonal), np.zeros(diagonal.shape[:-1])
    for s in range(2):
        for k, n in enumerate(n_nodes):
            a = rng.standard_normal((n, rank, rank))
            diagonal[s, k, :n] = a @ a.transpose(0, 2, 1) + 6 * np.eye(rank)
            upper[s, k, : n - 1] = rng.standard_normal((n - 1, rank, rank))
            gradient[s, k, :n] = rng.standard_normal((n, rank))
    return chain.Chains(*map(torch.from_numpy, (diagonal, upper, gradient)), torch.tensor(n_nodes))


def whole(system, s, k, share):
    """Return the matrix of a chain, its diagonal raised by a share."""
    n, rank = int(system.n_nodes[k]), system.gradient.shape[-1]
    matrix = np.zeros((n * rank, n * rank))
    for at in range(n):
        here = slice(at * rank, (at + 1) * rank)
        matrix[here, here] = system.diagonal[s, k, at]
        if at + 1 < n:
            there = slice((at + 1) * rank, (at + 2) * rank)
            matrix[here, there] = system.upper[s, k, at]
            matrix[there, here] = system.upper[s, k, at].T
    return matrix + share * np.diag(np.diag(matrix))


def test_both_ways_solve_the_whole_matrix():
    system = chains()
    damping = torch.tensor([[0.0, 0.1, 2.0], [0.3, 0.0, 0.01]], dtype=torch.float64)
    for kernels in (True, False):
        steps, inverse = chain.solve(system, damping, kernels=kernels), chain.invert(system, kernels=kernels)
        for s in range(2):
            for k, n in enumerate(system.n_nodes.tolist()):
                matrix = whole(system, s, k, float(damping[s, k]))
                wanted = np.linalg.solve(matrix, system.gradient[s, k, :n].ravel())
                np.testing.assert_allclose(steps[s, k, :n].ravel(), wanted, atol=1e-12)
                matrix = whole(system, s, k, 0.0)
                blocks = np.linalg.inv(matrix).reshape(n, 2, n, 2).transpose(0, 2, 1, 3)
                np.testing.assert_allclose(inverse.diagonal[s, k, :n], blocks[np.arange(n), np.arange(n)], atol=1e-12)
                np.testing.assert_allclose(
                    inverse.upper[s, k, : n - 1], blocks[np.arange(n - 1), np.arange(1, n)], atol=1e-12
                )
                np.testing.assert_allclose(inverse.log_det[s, k], np.linalg.slogdet(matrix)[1], rtol=1e-12)


def test_what_is_not_positive_definite_is_not_finite_and_spoils_no_other():
    system = chains()
    system.diagonal[0, 0, 1] = -torch.eye(2)
    for kernels in (True, False):
        steps = chain.solve(system, torch.zeros((2, 3), dtype=torch.float64), kernels=kernels)
        assert not torch.isfinite(steps[0, 0]).any()
        assert torch.isfinite(steps[1]).all()
        assert torch.isfinite(steps[0, 1:]).all()
