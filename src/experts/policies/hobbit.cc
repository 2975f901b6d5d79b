// HOBBIT's priority; the smallest goes. Ref: HOBBIT (arXiv 2411.01433), eq. 3:
//   p(e) = w_lru R/T + w_lfu F/T + w_lhu H/T + w_fld (1 - ((l_e - l_i + l_n) mod l_n) / l_n)
//   T  steps of this sequence so far           l_e  the expert's layer
//   R  step of the copy's last use, from 1     l_i  the layer that needs room
//   F  uses of the expert                      l_n  number of layers
//   H  uses at the copy's own precision
// R, F, H count from the start of the sequence (0 = not used in it); contents of the cache stay.
// `fld` (farthest layer distance) is the last term alone, LRU among the experts of a layer.
#include <array>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "experts/policies/copy_groups.h"
#include "experts/policies/policies.h"

namespace hob {
namespace {

struct HobbitWeights {
  double lru = 0.25, lfu = 0.25, lhu = 0.25, fld = 0.25;
};

class HobbitPolicy final : public GroupedPolicy {
 public:
  HobbitPolicy(const PolicyShape& shape, std::string_view name, const HobbitWeights& weights)
      : GroupedPolicy(shape),
        name_(name),
        w_(weights),
        records_(static_cast<size_t>(shape.n_copies())) {}
  std::string_view name() const override { return name_; }

  void on_sequence_start() override {
    first_step_ = -1;
    for (size_t copy = 0; copy < records_.size(); copy++) {
      records_[copy] = {};
      update(static_cast<int>(copy));
    }
  }

  void on_use(int expert, Precision used, int64_t step) override {
    if (first_step_ < 0) first_step_ = step;
    n_uses_++;
    for (const Precision p : {Precision::kHigh, Precision::kLow}) {
      const int copy = shape_.copy_of(expert, p);
      Record& r = records_[static_cast<size_t>(copy)];
      r.f++;
      if (p == used) {
        r.r = step - first_step_ + 1;
        r.h++;
        r.last = n_uses_;
      }
      update(copy);
    }
  }

  // Within a layer the last term is the same for all and 1/T is a common factor: the key is the
  // rest.
  int choose_victim(const EvictionRequest& request) override {
    const auto t = static_cast<double>(first_step_ < 0 ? 1 : request.step - first_step_ + 1);
    const int n = shape_.n_layers;
    return groups_.least(request.pool, [&](int layer, int, double key) {
      const int distance = (layer - request.layer + n) % n;
      return key / t + w_.fld * (1 - static_cast<double>(distance) / n);
    });
  }

 private:
  struct Record {
    int64_t r = 0, f = 0, h = 0, last = 0;
  };
  void update(int copy) {
    const Record& r = records_[static_cast<size_t>(copy)];
    groups_.set_rank(copy, {w_.lru * static_cast<double>(r.r) + w_.lfu * static_cast<double>(r.f) +
                                w_.lhu * static_cast<double>(r.h),
                            r.last});
  }

  const std::string_view name_;
  const HobbitWeights w_;
  std::vector<Record> records_;  // [copy]
  int64_t n_uses_ = 0, first_step_ = -1;
};

// "0.4,0.2,0.2,0.2", scaled to a sum of 1; empty = a quarter each.
HobbitWeights parse_weights(std::string_view text) {
  if (text.empty()) return {};
  std::array<double, 4> w{};
  double sum = 0;
  size_t n = 0;
  std::string_view rest = text;
  bool ok = true;
  while (ok && n < w.size()) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + comma, w[n]);
    ok = error == std::errc() && end == rest.data() + comma && std::isfinite(w[n]) && w[n] >= 0;
    sum += w[n++];
    if (comma == rest.size()) {
      rest = {};
      break;
    }
    rest.remove_prefix(comma + 1);
    ok = ok && n < w.size();  // a comma after the fourth
  }
  if (!ok || n != w.size() || !(sum > 0))
    fail(Code::kInvalidArgument,
         "[experts] policy hobbit: expected four weights >= 0 (lru,lfu,lhu,fld), got '{}'", text);
  return {w[0] / sum, w[1] / sum, w[2] / sum, w[3] / sum};
}

}  // namespace

std::unique_ptr<ExpertPolicy> make_hobbit_policy(const PolicyShape& shape, std::string_view args) {
  return std::make_unique<HobbitPolicy>(shape, "hobbit", parse_weights(args));
}
std::unique_ptr<ExpertPolicy> make_fld_policy(const PolicyShape& shape, std::string_view) {
  return std::make_unique<HobbitPolicy>(shape, "fld", HobbitWeights{0, 0, 0, 1});
}

}  // namespace hob
