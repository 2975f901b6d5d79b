#pragma once
#include "chat.h"
#include "interrupt.h"

namespace hob::app {

// Called after each answer, to print its numbers.
using OnAnswer = std::function<void(const Answer&)>;

// Talks on the terminal until the user leaves. Ctrl-C stops an answer; at an empty prompt it gives
// a hint, and again it leaves.
void run_repl(Chat& chat, Interrupt interrupt, bool quiet, const OnAnswer& on_answer);

}  // namespace hob::app
