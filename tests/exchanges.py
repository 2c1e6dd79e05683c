"""Two processes that exchange tensors, played one after the other in this process."""

import torch


def in_two_processes(monkeypatch, module, run, rounds=4):
    """Return the results of ``run(rank)`` for both ranks of two processes that run a module's code.

    MMEngine's functions in the module are replaced. In each round, a process is told what both sent
    in the round before; after as many rounds as there are exchanges that depend on each other,
    this is what they send. The last rounds must be alike.
    """
    sent, results = [[], []], [None, None]
    for _ in range(rounds):
        before, sent, former = sent, [[], []], results
        results = []
        for rank in range(2):

            def told(data, own=sent[rank], before=before):
                own.append(data.detach().clone())
                place = len(own) - 1
                return [
                    other[place] if place < len(other) else data.detach().clone()
                    for other in before
                ]

            def all_reduce(data, op='sum', told=told):
                both = torch.stack(told(data))
                data.copy_(both.amax(dim=0) if op == 'max' else both.sum(dim=0))

            for name, function in (
                ('get_world_size', lambda: 2),
                ('get_rank', lambda rank=rank: rank),
                ('all_gather', told),
                ('all_reduce', all_reduce),
            ):
                monkeypatch.setattr(module, name, function, raising=False)
            results.append(run(rank))
    for ours, theirs in zip(results, former, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    return results
