# End to end: the built program as a user runs it. One CTest entry per file; Python's standard library only.
# They start the program themselves and know of no emulator (tests/cross/compare_logits.sh does).
if(TARGET hob AND NOT CMAKE_CROSSCOMPILING)
  # Faults of the C library, for LD_PRELOAD. Without hob_flags: no sanitizer in them.
  set(preload ${CMAKE_CURRENT_BINARY_DIR}/preload)
  foreach(fault jumping_clock no_thread few_descriptors)
    add_library(${fault} MODULE e2e/preload/${fault}.c)
    set_target_properties(${fault} PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${preload})
    target_compile_options(${fault} PRIVATE -Wall -Wextra -Werror)
    target_link_libraries(${fault} PRIVATE ${CMAKE_DL_LIBS})
  endforeach()
  # HOB_SANITIZE: a sanitizer's shadow memory is part of no plan and fits into no emulator.
  set(environment "PYTHONDONTWRITEBYTECODE=1;HOB_PRELOAD=${preload};HOB_SANITIZE=${HOB_SANITIZE}")
  list(APPEND environment "HOB_WANRELAY=$<TARGET_FILE:wanrelay>")
  foreach(topic identity errors commands terminal pack convert folder quantize trace precision serve draft edge memory faults wanrelay)
    add_test(NAME e2e.${topic} COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/${topic}_test.py
             $<TARGET_FILE:hob> ${CMAKE_CURRENT_SOURCE_DIR}/data)
    set_tests_properties(e2e.${topic} PROPERTIES LABELS e2e TIMEOUT 900 ENVIRONMENT "${environment}")
  endforeach()
  # Five minutes of random load. `ctest -LE slow` leaves it out; the cost makes a parallel run begin with it.
  add_test(NAME e2e.soak COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/soak_test.py $<TARGET_FILE:hob>
           ${CMAKE_CURRENT_SOURCE_DIR}/data --seconds 300)
  set_tests_properties(e2e.soak PROPERTIES LABELS "e2e;slow" TIMEOUT 2400 COST 1000 ENVIRONMENT "${environment}")
endif()
