#include "backend/cpu_route.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace hob {
namespace {

// The k largest of p, ties to the lower id. Also with NaN everywhere: the lowest id that is left.
void choose(const float* p, int n, int k, int32_t* ids) {
  for (int rank = 0; rank < k; rank++) {
    int best = -1;
    for (int e = 0; e < n; e++)
      if (std::find(ids, ids + rank, e) == ids + rank && (best < 0 || p[e] > p[best])) best = e;
    ids[rank] = best;
  }
}

void route_softmax(const KernelTable& kernels, float* p, int n, const RouteRule& rule, int32_t* ids,
                   float* weights) {
  kernels.softmax(p, n);
  choose(p, n, rule.k, ids);
  float sum = 0.f;
  for (int rank = 0; rank < rule.k; rank++) sum += weights[rank] = p[ids[rank]];
  if (!rule.renormalise) return;
  for (int rank = 0; rank < rule.k; rank++) weights[rank] /= sum;
}

void route_chosen(const KernelTable& kernels, const float* p, int n, const RouteRule& rule,
                  int32_t* ids, float* weights) {
  choose(p, n, rule.k, ids);
  for (int rank = 0; rank < rule.k; rank++) weights[rank] = p[ids[rank]];
  kernels.softmax(weights, rule.k);
}

// Each choice: the best score that is left; its weight by a softmax over those not chosen yet that
// are at most 2 * jitter below it, relative to the larger of their own size and the best.
void route_sparse_mixer(const KernelTable& kernels, const float* p, int n, const RouteRule& rule,
                        int32_t* ids, float* weights) {
  thread_local std::vector<float> left, masked;
  left.assign(p, p + n);
  for (int rank = 0; rank < rule.k; rank++) {
    choose(left.data(), n, 1, ids + rank);
    const int best = ids[rank];
    const float most = left[static_cast<size_t>(best)];
    masked.assign(left.begin(), left.end());
    for (int e = 0; e < n; e++)
      if ((most - p[e]) / std::max(std::fabs(p[e]), most) > 2 * rule.jitter)
        masked[static_cast<size_t>(e)] = -INFINITY;
    kernels.softmax(masked.data(), n);
    weights[rank] = masked[static_cast<size_t>(best)];
    left[static_cast<size_t>(best)] = -INFINITY;
  }
}

}  // namespace

void route_row(const KernelTable& kernels, float* p, int n, const RouteRule& rule, int32_t* ids,
               float* weights) {
  switch (rule.kind) {
    case Router::kSoftmax:
      route_softmax(kernels, p, n, rule, ids, weights);
      break;
    case Router::kSoftmaxOfChosen:
      route_chosen(kernels, p, n, rule, ids, weights);
      break;
    case Router::kSparseMixer:
      route_sparse_mixer(kernels, p, n, rule, ids, weights);
      break;
  }
  if (rule.scale != 1.f)
    for (int rank = 0; rank < rule.k; rank++) weights[rank] *= rule.scale;
}

}  // namespace hob
