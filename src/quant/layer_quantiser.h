#pragma once
// Matrices of a model quantised by GPTQ, AWQ or plain rounding, layer after layer: statistics,
// scales and codes. What file they go to is another matter (gptq_model.h, gptq_folder.h).
#include <memory>

#include "quant/awq_folds.h"
#include "quant/calibration_names.h"
#include "quant/calibration_weights.h"
#include "quant/gptq_model.h"

namespace hob {

// Is it a matrix that the methods work on, with values that they can read?
bool quantisable(const RawTensor& tensor);

class LayerQuantiser {
 public:
  // All borrowed.
  LayerQuantiser(ModelSession& session, std::span<const int32_t> tokens,
                 const QuantiseOptions& options, ThreadPool& pool,
                 const CalibratedProgress& progress);

  // All tensors, layer by layer, so that each layer is calibrated once.
  const std::vector<const RawTensor*>& order() const { return order_; }
  // In that order: before and after a tensor's values are asked for.
  void begin(const RawTensor& tensor);
  void end(const RawTensor& tensor);

  // Values of the whole tensor or of one expert, with AWQ's scales in them.
  std::vector<float> values(const RawTensor& tensor, int64_t expert);
  // The same as codes; of a quantisable tensor. Counted in the report.
  QuantisedMatrix quantise(const RawTensor& tensor, int64_t expert, const GridParams& grid);
  // AWQ's scales change a tensor that is no matrix of the layer: a norm, a router.
  bool folds(const RawTensor& tensor) const { return folds_ && folds_->touches(tensor.name); }
  // They might; known before any scale is.
  bool may_fold(const RawTensor& tensor) const;

  const WeightReader& reader() const { return reader_; }
  QuantiseReport& report() { return report_; }

 private:
  void calibrate(int layer);
  void blend();

  ModelSession& session_;
  const ModelSpec& spec_;
  std::span<const int32_t> tokens_;
  const QuantiseOptions& options_;
  ThreadPool& pool_;
  const CalibratedProgress& progress_;
  WeightReader reader_;
  std::vector<const RawTensor*> order_;
  LayerRange range_;
  Hessians hessians_;  // of range_
  std::unique_ptr<AwqFolds> folds_;
  QuantiseReport report_;
  uint64_t done_ = 0, total_ = 0;
};

// Experts in a tensor of routed ones, else 1.
int64_t n_experts_in(const RawTensor& tensor);

}  // namespace hob
