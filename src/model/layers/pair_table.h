#pragma once
// Which experts of the next layer follow which of this one: an online co-occurrence table. Learns
// while the model runs; needs no weights and no knowledge of the model.
#include <cstdint>
#include <span>
#include <vector>

namespace hob {

class PairTable {
 public:
  PairTable(int n_layers, int n_experts);
  static uint64_t bytes(int n_layers, int n_experts);
  // One row chose `now` at `layer` after `before` at layer - 1.
  void observe(int layer, std::span<const int32_t> before, std::span<const int32_t> now);
  // The k experts of `layer` that most often followed `before`; fewer when less is known. Scores
  // descend.
  int predict(int layer, std::span<const int32_t> before, int k, int32_t* ids, float* scores);

 private:
  uint16_t* row(int layer, int32_t before) {
    return counts_.data() + (static_cast<size_t>(layer) * static_cast<size_t>(n_) +
                             static_cast<size_t>(before)) *
                                static_cast<size_t>(n_);
  }
  int n_;
  std::vector<uint16_t> counts_;  // [layer][expert before][expert now]
  std::vector<uint32_t> sums_;  // [n_], scratch of predict()
};

}  // namespace hob
