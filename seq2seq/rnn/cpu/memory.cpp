// What the C library does with large blocks that are freed.

#include <cstdlib>
#include <initializer_list>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace {

// A recurrence needs tens of megabytes for as long as a step of training takes. By its defaults
// glibc gives them back to the system at once, and the next step gets them page by page, each
// zeroed: up to a sixth of its time. So, from when the kernels are loaded, blocks of up to 32 MiB
// (the most that glibc allows) come from the heap, and 256 MiB of what is freed stay with the
// process. Whoever has set either by glibc's own variables keeps that.
[[maybe_unused]] const bool freed_memory_is_kept = [] {
#ifdef __GLIBC__
  for (const char* variable :
       {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"})
    if (std::getenv(variable) != nullptr) return false;
  return mallopt(M_MMAP_THRESHOLD, 32 << 20) == 1 && mallopt(M_TRIM_THRESHOLD, 256 << 20) == 1;
#else
  return false;
#endif
}();

}  // namespace
