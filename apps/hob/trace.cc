// hob trace record | sim | fit | gen: routing as data.
#include "trace.h"

#include <memory>

namespace hob::app {
namespace {

constexpr Command kTraceCommands[] = {
    {"record", "run a model and write which experts it chose", setup_trace_record},
    {"sim", "replay a trace through cache policies and sizes", setup_trace_simulate},
    {"fit", "fit the weights of the hobbit policy to a trace", setup_trace_fit},
    {"gen", "write a synthetic trace of stated locality", setup_trace_generate},
};

}  // namespace

Runner setup_trace(CLI::App& app) {
  auto chosen = std::make_shared<Runner>();
  app.require_subcommand(1);
  for (const Command& command : kTraceCommands) {
    CLI::App* sub = app.add_subcommand(command.name, command.help);
    if (command.name == std::string_view("sim")) sub->alias("replay");
    sub->callback([chosen, runner = command.setup(*sub)] { *chosen = runner; });
  }
  return [chosen] { (*chosen)(); };
}

}  // namespace hob::app
