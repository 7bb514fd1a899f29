/* Seeded inputs, and the check of outputs against what the compiler expected. Part of the executable only. */
#ifndef PLANISH_SELFTEST_H
#define PLANISH_SELFTEST_H

#include "npy.h"

/* Make input `index` of the module for its self-test, or, if it has none, for a benchmark (numbers in [0, 1), symbols
 * 1). The array's `data` is from malloc. */
planish_status planish_seeded_input(const planish_module *module, int32_t index, planish_array *array,
                                    planish_message *message);
/* Check output `index`: expected sum and samples. PLANISH_OK, or PLANISH_FAILED and a message. */
planish_status planish_check_output(const planish_module *module, int32_t index, const planish_tensor *tensor,
                                    planish_message *message);
/* Element `index` of row-major data as a double (8-bit and 4-bit floats: their bits). */
double planish_element(planish_dtype dtype, const void *data, int64_t index);

#endif
