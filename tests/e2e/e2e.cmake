# End to end: the built program as a user runs it. One CTest entry per file; Python's standard library only.
# They start the program themselves and know of no emulator (tests/cross/compare_logits.sh does).
if(TARGET hob AND NOT CMAKE_CROSSCOMPILING)
  foreach(topic identity errors commands terminal pack trace precision serve memory faults)
    add_test(NAME e2e.${topic} COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/${topic}_test.py
             $<TARGET_FILE:hob> ${CMAKE_CURRENT_SOURCE_DIR}/data)
    set_tests_properties(e2e.${topic} PROPERTIES LABELS e2e TIMEOUT 900 ENVIRONMENT "PYTHONDONTWRITEBYTECODE=1")
    if(HOB_SANITIZE)
      # The sanitizers' shadow memory is no part of any plan.
      set_property(TEST e2e.${topic} APPEND PROPERTY ENVIRONMENT "SANITIZED=1")
    endif()
  endforeach()
  # Five minutes of random load. `ctest -LE slow` leaves it out; the cost makes a parallel run begin with it.
  add_test(NAME e2e.soak COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/soak_test.py $<TARGET_FILE:hob>
           ${CMAKE_CURRENT_SOURCE_DIR}/data --seconds 300)
  set_tests_properties(e2e.soak PROPERTIES LABELS "e2e;slow" TIMEOUT 2400 COST 1000
                       ENVIRONMENT "PYTHONDONTWRITEBYTECODE=1")
  if(HOB_SANITIZE)
    set_property(TEST e2e.soak APPEND PROPERTY ENVIRONMENT "SANITIZED=1")
  endif()
endif()
