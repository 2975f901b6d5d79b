#pragma once
#include "backend/backend.h"
#include "experts/expert_store.h"

namespace hob {

// Watches the routed experts at work, for calibration. Engine thread.
class ExpertObserver {
 public:
  virtual ~ExpertObserver() = default;
  // The expert's weights have been applied to rows `group.rows` of x. All valid during the call
  // only.
  virtual void saw(ExpertKey key, const ExpertGroup& group, Mat x) = 0;
};

}  // namespace hob
