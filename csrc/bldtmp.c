#include <stdint.h>
#include "dp_api.h"

/* placeholder until engine.c lands */
const char *dp_error_name(int code)
{
    return code == DP_OK ? "ok" : "unknown";
}
