#include "quant/allocation.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "base/error.h"

namespace hob {
namespace {

double gain_per_byte(const TypeChoice& from, const TypeChoice& to) {
  return (from.loss - to.loss) / static_cast<double>(to.n_bytes - from.n_bytes);
}

// Indices of the choices on the lower convex hull, from the smallest on: ever more bytes, ever less
// loss, ever less gain per byte.
std::vector<size_t> hull_of(const std::vector<TypeChoice>& choices) {
  std::vector<size_t> order(choices.size());
  for (size_t i = 0; i < order.size(); i++) order[i] = i;
  const auto key = [&](size_t i) { return std::tuple(choices[i].n_bytes, choices[i].loss, i); };
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return key(a) < key(b); });
  std::vector<size_t> hull;
  for (const size_t i : order) {
    if (!hull.empty() && choices[i].loss >= choices[hull.back()].loss) continue;
    while (hull.size() > 1) {
      const TypeChoice &before = choices[hull[hull.size() - 2]], &last = choices[hull.back()];
      if (gain_per_byte(before, last) > gain_per_byte(last, choices[i])) break;
      hull.pop_back();
    }
    hull.push_back(i);
  }
  return hull;
}

struct Step {
  size_t tensor, to;
  uint64_t n_bytes;
  double gain;  // per byte
};

// A tensor's steps are in order, because their gains fall.
std::vector<Step> steps_of(std::span<const std::vector<TypeChoice>> tensors,
                           std::vector<size_t>& start) {
  std::vector<Step> steps;
  for (size_t t = 0; t < tensors.size(); t++) {
    const std::vector<size_t> hull = hull_of(tensors[t]);
    start.push_back(hull.front());
    for (size_t i = 1; i < hull.size(); i++) {
      const TypeChoice &from = tensors[t][hull[i - 1]], &to = tensors[t][hull[i]];
      steps.push_back({t, hull[i], to.n_bytes - from.n_bytes, gain_per_byte(from, to)});
    }
  }
  std::stable_sort(steps.begin(), steps.end(),
                   [](const Step& a, const Step& b) { return a.gain > b.gain; });
  return steps;
}

}  // namespace

uint64_t smallest_bytes(std::span<const std::vector<TypeChoice>> tensors) {
  uint64_t total = 0;
  for (const std::vector<TypeChoice>& choices : tensors) {
    HOB_CHECK(!choices.empty());
    total += std::min_element(choices.begin(), choices.end(), [](const auto& a, const auto& b) {
               return a.n_bytes < b.n_bytes;
             })->n_bytes;
  }
  return total;
}

Allocation allocate_types(std::span<const std::vector<TypeChoice>> tensors, uint64_t budget) {
  for (const std::vector<TypeChoice>& choices : tensors)
    for (const TypeChoice& c : choices) HOB_CHECK(std::isfinite(c.loss) && c.loss >= 0);
  Allocation a;
  a.n_bytes = smallest_bytes(tensors);
  HOB_CHECK(a.n_bytes <= budget);
  const std::vector<Step> steps = steps_of(tensors, a.chosen);
  std::vector<bool> ended(tensors.size());
  for (const Step& step : steps) {
    if (ended[step.tensor]) continue;
    if (step.n_bytes > budget - a.n_bytes) {
      ended[step.tensor] = true;
      continue;
    }
    a.chosen[step.tensor] = step.to;
    a.n_bytes += step.n_bytes;
  }
  for (size_t t = 0; t < tensors.size(); t++) a.loss += tensors[t][a.chosen[t]].loss;
  return a;
}

}  // namespace hob
