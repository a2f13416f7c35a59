"""Successive shortest paths between clusters, for minimum-cost assignments with bounds on the clusters' weights.

Ahuja, Magnanti and Orlin, *Network Flows* (1993), Section 9.7, on the graph of k clusters and a sink: the arc from a
cluster to another is the point that moves at the least cost, so a path is a chain of points that each make room for the
next one. Beginning with prices that are nearly right, few paths are left to find.
"""
import numpy as np

from beam_coresets._jit import kernel

DONE, FAR_OFF, NO_WAY = range(3)
_SPECK = 1e-10  # share of a point that moves with the rest of it


@kernel
def _cheapest_moves(cost, amounts, members, count, a, change, row):  # type: ignore[no-untyped-def]
    """change[a, b] = the least that a unit of cluster a's weight pays more in b, and whose row it is.

    Lists of members lose those that have left.
    """
    k = cost.shape[1]
    change[a] = np.inf
    kept = 0
    for at in range(count[a]):
        p = members[a, at]
        if amounts[a, p] > 0.0:
            members[a, kept] = p
            kept += 1
            here = cost[p, a]
            for b in range(k):
                if cost[p, b] - here < change[a, b]:
                    change[a, b] = cost[p, b] - here
                    row[a, b] = p
    count[a] = kept


@kernel
def _begin(cost, weights, low, high, prices, amounts, members, count, flow, excess):  # type: ignore[no-untyped-def]
    """Puts every point where cost + price is least, and as much as these prices ask for on the arcs to the sink."""
    n, k = cost.shape
    for p in range(n):
        best = 0
        for i in range(1, k):
            if cost[p, i] + prices[i] < cost[p, best] + prices[best]:
                best = i
        amounts[best, p] = weights[p]
        members[best, count[best]] = p
        count[best] += 1
        excess[best] += weights[p]
    for i in range(k):
        if high[i] == np.inf:
            prices[i] = min(prices[i], 0.0)
        flow[i] = high[i] if prices[i] > 0.0 else low[i] if prices[i] < 0.0 else min(max(excess[i], low[i]), high[i])
        excess[k] += flow[i] - excess[i]
        excess[i] -= flow[i]


@kernel
def _shortest_path(potential, change, flow, low, high, excess, rounding, start, dist, parent):  # type: ignore[no-untyped-def]
    """Dijkstra from `start` by reduced lengths to the first node with too little; brings the potentials up to date.

    Returns that node, or -1 if none can be reached.
    """
    k = len(flow)
    done = np.zeros(k + 1, np.bool_)
    dist[:] = np.inf
    dist[start] = 0.0
    end = -1
    for _ in range(k + 1):
        u = -1
        for v in range(k + 1):
            if not done[v] and (u < 0 or dist[v] < dist[u]):
                u = v
        if dist[u] == np.inf:
            return -1
        done[u] = True
        if excess[u] < -rounding:
            end = u
            break
        for v in range(k + 1):
            if done[v]:
                continue
            if u == k:
                length = 0.0 if flow[v] > low[v] else np.inf
            elif v == k:
                length = 0.0 if flow[u] < high[u] else np.inf
            else:
                length = change[u, v]
            length = dist[u] + max(0.0, length + potential[v] - potential[u])
            if length < dist[v]:
                dist[v], parent[v] = length, u
    if end >= 0:
        for v in range(k + 1):
            potential[v] -= min(dist[v], dist[end])
    return end


@kernel
def _hops(parent, row, start, end, k, hops):  # type: ignore[no-untyped-def]
    """Writes the path from its end: (from, to, whose row) each; returns how many.

    One point's weight goes from where it comes to where it stays at once: by way of another cluster that holds a speck
    of it, only so much would move at a time.
    """
    count = 0
    v = end
    while v != start:
        u = parent[v]
        p = row[u, v] if u < k and v < k else -1
        while p >= 0 and u != start and parent[u] < k and row[parent[u], u] == p:
            u = parent[u]
        hops[count, 0], hops[count, 1], hops[count, 2] = u, v, p
        count += 1
        v = u
    return count


@kernel
def _push(  # type: ignore[no-untyped-def]
    cost, weights, amounts, members, count, change, row, flow, low, high, excess, hops, start, end
):
    """Moves as much along the path as it takes."""
    k = len(flow)
    amount = min(excess[start], -excess[end])
    for u, v, p in hops:
        amount = min(amount, flow[v] - low[v] if u == k else high[u] - flow[u] if v == k else amounts[u, p])
    excess[start] -= amount
    excess[end] += amount
    left = np.zeros(k, np.bool_)
    for u, v, p in hops:
        if u == k:
            flow[v] -= amount
        elif v == k:
            flow[u] += amount
        else:
            moved = amount
            if amounts[u, p] - amount <= _SPECK * weights[p]:
                moved = amounts[u, p]
                excess[u] -= moved - amount
                excess[v] += moved - amount
                amounts[u, p] = 0.0
                left[u] = True
            else:
                amounts[u, p] -= amount
            if amounts[v, p] <= 0.0:
                members[v, count[v]] = p
                count[v] += 1
            amounts[v, p] += moved
            for b in range(k):
                if cost[p, b] - cost[p, v] < change[v, b]:
                    change[v, b] = cost[p, b] - cost[p, v]
                    row[v, b] = p
    for u in range(k):
        if left[u]:
            _cheapest_moves(cost, amounts, members, count, u, change, row)


@kernel
def successive_paths(cost, weights, low, high, prices, amounts, rounding, most):  # type: ignore[no-untyped-def]
    """Fills amounts (k, n) and brings prices (k,) up to date.

    The last node, k, is the sink of all weight: an arc from each cluster carries low to high to it. Invariant: every
    point is only where cost + price is least, and the arc of a cluster whose price is above the sink's is full, of one
    below it at its least.

    Args:
      cost: (n, k). weights: (n,) positive. low, high: (k,) of the clusters' weights.
      prices: to begin with.
      amounts: zeros.
      rounding: weight that counts as none.
      most: weight; it gives up where some cluster has so much too much to begin with.

    Returns:
      `DONE`, `FAR_OFF` where it gave up, or `NO_WAY` from too much to too little.
    """
    k = cost.shape[1]
    flow, excess = np.empty(k), np.zeros(k + 1)
    members, count = np.empty(amounts.shape, np.int32), np.zeros(k, np.int64)
    _begin(cost, weights, low, high, prices, amounts, members, count, flow, excess)
    if excess[:k].max() > most:
        return FAR_OFF
    potential = np.zeros(k + 1)
    for j in range(k):
        potential[j] = prices[j]
    change, row = np.empty((k, k)), np.zeros((k, k), np.int64)
    for i in range(k):
        _cheapest_moves(cost, amounts, members, count, i, change, row)
    dist, parent, hops = np.empty(k + 1), np.zeros(k + 1, np.int64), np.empty((k + 1, 3), np.int64)
    while True:
        start = np.argmax(excess)
        if excess[start] <= (k + 2) * rounding:  # else some node has too little by more than the rounding
            break
        end = _shortest_path(potential, change, flow, low, high, excess, rounding, start, dist, parent)
        if end < 0:
            return NO_WAY
        path = hops[: _hops(parent, row, start, end, k, hops)]
        _push(cost, weights, amounts, members, count, change, row, flow, low, high, excess, path, start, end)
    for i in range(k):
        prices[i] = potential[i] - potential[k]
        if low[i] <= 0.0:
            prices[i] = max(prices[i], 0.0)  # below it only where nothing is
    return DONE


@kernel
def flow_of(cost, weights, amounts):  # type: ignore[no-untyped-def]
    """The entries of amounts (k, n) by row: rows, clusters, amounts that add up to the weights, and the total cost."""
    k, n = amounts.shape
    size = 0
    for i in range(k):
        for p in range(n):
            size += amounts[i, p] > 0.0
    rows, clusters, each = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size)
    total, at = 0.0, 0
    for p in range(n):
        have, first = 0.0, at
        for i in range(k):
            if amounts[i, p] > 0.0:
                rows[at], clusters[at], each[at] = p, i, amounts[i, p]
                have += amounts[i, p]
                at += 1
        for j in range(first, at):
            each[j] *= weights[p] / have
            total += each[j] * cost[p, clusters[j]]
    return rows, clusters, each, total
