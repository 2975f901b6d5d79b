#pragma once
// A subcommand: a row of the table in main.cc and a function that adds its options and returns what
// runs it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <string>

namespace hob::app {

using Runner = std::function<void()>;

struct Command {
  const char* name;
  const char* help;
  Runner (*setup)(CLI::App& app);
};

// Bad usage: exit code 2. Everything else that is thrown gives 1.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The reader of our stdout has gone (`hob ... | head`): leave without a word.
class OutputClosed : public std::runtime_error {
 public:
  OutputClosed() : std::runtime_error("stdout closed") {}
};

// A number in [least, most]. CLI::Range lets NaN pass.
inline CLI::Validator number_in(double least, double most) {
  const std::string range = fmt::format("in [{:g} - {:g}]", least, most);
  return CLI::Validator(
      [=](const std::string& text) {
        char* end = nullptr;
        const double value = std::strtod(text.c_str(), &end);
        const bool ok = !text.empty() && *end == 0 && value >= least && value <= most;
        return ok ? std::string() : "expected a number " + range + ", got '" + text + "'";
      },
      range);
}

Runner setup_run(CLI::App& app);
Runner setup_logits(CLI::App& app);
Runner setup_tokenize(CLI::App& app);
Runner setup_perplexity(CLI::App& app);
Runner setup_bench(CLI::App& app);
Runner setup_plan(CLI::App& app);
Runner setup_pack(CLI::App& app);
Runner setup_show(CLI::App& app);
Runner setup_convert(CLI::App& app);
Runner setup_quantize_calibrated(CLI::App& app);
Runner setup_trace(CLI::App& app);
Runner setup_serve(CLI::App& app);
Runner setup_edge(CLI::App& app);
Runner setup_ps(CLI::App& app);
Runner setup_stop(CLI::App& app);

}  // namespace hob::app
