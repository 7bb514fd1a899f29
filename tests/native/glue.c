/* Ties fake_module.c to the runtime, as codegen/link.py does for a real artifact. */
#include "internal.h"

static const float weights[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                  16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

const planish_model planish_artifact_models[] = {
    {PLANISH_ABI_VERSION, &planish_module_data, (const uint8_t *)weights, "fake"}};
const uint32_t planish_artifact_levels = 1;
