#pragma once
// A subcommand: a row of the table in main.cc and a function that adds its options and returns what
// runs it.
#include <CLI/CLI.hpp>
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

Runner setup_run(CLI::App& app);
Runner setup_logits(CLI::App& app);
Runner setup_tokenize(CLI::App& app);
Runner setup_perplexity(CLI::App& app);
Runner setup_bench(CLI::App& app);
Runner setup_plan(CLI::App& app);
Runner setup_pack(CLI::App& app);
Runner setup_show(CLI::App& app);
Runner setup_trace(CLI::App& app);

}  // namespace hob::app
