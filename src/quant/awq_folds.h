#pragma once
// AWQ's scales of a model's layers, and where they go: into the matrices that read the scaled
// channels, and the other way round into what makes them (a norm, or rows of a matrix).
#include <map>
#include <string_view>
#include <vector>

#include "format/model_file.h"
#include "quant/awq.h"
#include "quant/calibration.h"
#include "quant/calibration_names.h"
#include "quant/calibration_weights.h"

namespace hob {

class AwqFolds {
 public:
  // Throws Error for families whose norms have biases.
  AwqFolds(const ModelSpec& spec, const GridParams& grid, ThreadPool& pool);

  // Finds the scales of a layer from its Hessians.
  void search_layer(int layer, const ModelFile& file, const WeightReader& reader,
                    const Hessians& hessians);

  // Null where the input stays as it is.
  const std::vector<float>* scales(InputKey key) const;

  // Norms and routers: may a fold change them, does one, and the change.
  static bool may_touch(const ModelSpec& spec, std::string_view tensor_name);
  bool touches(std::string_view tensor_name) const;
  void apply(std::string_view tensor_name, int64_t cols, std::vector<float>& w) const;
  // One matrix.
  void apply(const LayerMatrix& matrix, int expert, int64_t cols, std::vector<float>& w) const;

 private:
  struct Fold {
    InputKey key;
    bool multiply;  // or divide
  };
  static std::optional<Fold> fold_of(const ModelSpec& spec, std::string_view tensor_name);
  bool can_scale(LinearInput input) const;
  void search(InputKey key, const ModelFile& file, const WeightReader& reader,
              const Hessians& hessians);

  const ModelSpec& spec_;
  GridParams grid_;
  ThreadPool& pool_;
  std::map<InputKey, std::vector<float>> scales_;  // kFfn: expert -1 stands for all
};

}  // namespace hob
