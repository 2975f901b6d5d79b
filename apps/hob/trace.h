#pragma once
// The parts of `hob trace`. Recording is what the command itself does; the others are subcommands.
#include "command.h"

namespace hob::app {

Runner setup_trace_record(CLI::App& app);
Runner setup_trace_generate(CLI::App& app);
Runner setup_trace_replay(CLI::App& app);
Runner setup_trace_fit(CLI::App& app);

}  // namespace hob::app
