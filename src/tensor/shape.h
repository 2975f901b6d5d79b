#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace hob {

// Dimensions in row-major (PyTorch) order: the last one is contiguous. GGUF's reversed order stops
// in format/.
struct Shape {
  int n_dims = 0;
  std::array<int64_t, 4> dim{};

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    for (int64_t d : dims) dim[static_cast<size_t>(n_dims++)] = d;
  }
  int64_t n_elements() const {
    int64_t n = 1;
    for (int i = 0; i < n_dims; i++) n *= dim[static_cast<size_t>(i)];
    return n;
  }
  int64_t operator[](int i) const { return dim[static_cast<size_t>(i)]; }
  int64_t cols() const { return n_dims ? dim[static_cast<size_t>(n_dims - 1)] : 1; }
  int64_t rows() const { return n_dims ? n_elements() / cols() : 1; }
  bool operator==(const Shape&) const = default;
  std::string str() const;  // "[64,1408,2048]"
};

}  // namespace hob
