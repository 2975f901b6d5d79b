#include <gtest/gtest.h>

#include "base/error.h"
#include "format/gguf.h"

namespace hob {
namespace {

Metadata sample() {
  Metadata m;
  m.set("u", uint64_t{7});
  m.set("i", int64_t{-3});
  m.set("f", 2.5);
  m.set("b", true);
  m.set("s", std::string("text"));
  m.set("is", std::vector<int64_t>{1, 2});
  m.set("fs", std::vector<double>{0.5});
  m.set("ss", std::vector<std::string>{"x"});
  return m;
}

template <class F>
void expect_error(F get, Code code, const std::string& message) {
  try {
    get(sample());
    ADD_FAILURE() << "no error: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_EQ(error.what(), message);
  }
}

TEST(MetadataTest, TypedLookUps) {
  const Metadata m = sample();
  EXPECT_EQ(m.get_uint("u"), 7u);
  EXPECT_EQ(m.get_float("f"), 2.5);
  EXPECT_EQ(m.get_float("u"), 7.0);
  EXPECT_EQ(m.get_float("i"), -3.0);
  EXPECT_EQ(m.find_bool("b"), true);
  EXPECT_EQ(m.get_string("s"), "text");
  EXPECT_EQ(m.find_ints("is")->size(), 2u);
  EXPECT_EQ(m.find_floats("fs")->at(0), 0.5);
  EXPECT_EQ(m.find_strings("ss")->at(0), "x");
}

TEST(MetadataTest, MissingIsEmptyForFind) {
  const Metadata m = sample();
  EXPECT_FALSE(m.has("absent") || m.find("absent"));
  EXPECT_FALSE(m.find_uint("absent") || m.find_float("absent") || m.find_bool("absent"));
  EXPECT_FALSE(m.find_string("absent"));
  EXPECT_TRUE(!m.find_ints("absent") && !m.find_floats("absent") && !m.find_strings("absent"));
}

TEST(MetadataTest, ErrorsNameTheKeyTheExpectationAndTheFact) {
  using M = const Metadata&;
  expect_error([](M m) { m.get_uint("absent"); }, Code::kNotFound,
               "[gguf] key absent: expected an integer, file has no such key");
  expect_error([](M m) { m.get_float("absent"); }, Code::kNotFound,
               "[gguf] key absent: expected a number, file has no such key");
  expect_error([](M m) { m.get_string("absent"); }, Code::kNotFound,
               "[gguf] key absent: expected a string, file has no such key");
  expect_error([](M m) { m.get_uint("i"); }, Code::kDataLoss,
               "[gguf] key i: expected 0 or more, file has -3");
  expect_error([](M m) { m.find_uint("f"); }, Code::kDataLoss,
               "[gguf] key f: expected an integer, file has a float");
  expect_error([](M m) { m.find_float("s"); }, Code::kDataLoss,
               "[gguf] key s: expected a number, file has a string");
  expect_error([](M m) { m.find_bool("u"); }, Code::kDataLoss,
               "[gguf] key u: expected a bool, file has an unsigned integer");
  expect_error([](M m) { m.find_string("ss"); }, Code::kDataLoss,
               "[gguf] key ss: expected a string, file has an array of strings");
  expect_error([](M m) { m.find_ints("u"); }, Code::kDataLoss,
               "[gguf] key u: expected an array of integers, file has an unsigned integer");
  expect_error([](M m) { m.find_floats("is"); }, Code::kDataLoss,
               "[gguf] key is: expected an array of floats, file has an array of integers");
  expect_error([](M m) { m.find_strings("fs"); }, Code::kDataLoss,
               "[gguf] key fs: expected an array of strings, file has an array of floats");
}

}  // namespace
}  // namespace hob
