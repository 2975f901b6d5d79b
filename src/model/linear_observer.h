#pragma once
#include "backend/backend.h"

namespace hob {

// Sees what goes into the matrices of every layer, for calibration. Engine thread; rows are valid
// during the call only. Routed experts have an observer of their own (ExpertObserver).
class LinearObserver {
 public:
  virtual ~LinearObserver() = default;
  virtual void attention_in(int layer, Mat x) = 0;   // of q, k and v
  virtual void attention_out(int layer, Mat x) = 0;  // of o
  // A dense FFN, or the shared expert of a layer with routed ones.
  virtual void ffn(int layer, const ExpertGroup& group, Mat x) = 0;
};

}  // namespace hob
