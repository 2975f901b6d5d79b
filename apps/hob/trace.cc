// hob trace MODEL -o FILE records; hob trace replay | fit | gen: routing as data.
#include "trace.h"

#include <memory>

namespace hob::app {
namespace {

constexpr Command kTraceCommands[] = {
    {"replay", "replay a trace through cache policies and sizes", setup_trace_replay},
    {"fit", "fit the weights of the hobbit policy to traces", setup_trace_fit},
    {"gen", "write a synthetic trace of stated locality", setup_trace_generate},
};

}  // namespace

Runner setup_trace(CLI::App& app) {
  auto chosen = std::make_shared<Runner>(setup_trace_record(app));
  app.require_subcommand(0, 1);
  for (const Command& command : kTraceCommands) {
    CLI::App* sub = app.add_subcommand(command.name, command.help);
    sub->callback([chosen, runner = command.setup(*sub)] { *chosen = runner; });
  }
  return [chosen] { (*chosen)(); };
}

}  // namespace hob::app
