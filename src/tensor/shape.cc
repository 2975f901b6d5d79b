#include "tensor/shape.h"

namespace hob {

std::string Shape::str() const {
  std::string s = "[";
  for (int i = 0; i < n_dims; i++)
    s += (i ? "," : "") + std::to_string(dim[static_cast<size_t>(i)]);
  return s + "]";
}

}  // namespace hob
