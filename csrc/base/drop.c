/* drop.c: what reasons to drop are called, as dp_api.h tells Python. */
#include "base/drop.h"
#include <stddef.h>
#include "dp_api.h"

static const struct {
    const char *name, *text;
} drop_texts[DROP_COUNT] = {
    [DROP_NONE] = {"none", "not dropped"},
#define DROP(symbol, name, text) [DROP_##symbol] = {name, text},
#include "base/drop.def"
#undef DROP
};

uint32_t dp_drop_count(void)
{
    return DROP_COUNT;
}

const char *dp_drop_name(uint32_t reason)
{
    return reason < DROP_COUNT ? drop_texts[reason].name : NULL;
}

const char *dp_drop_text(uint32_t reason)
{
    return reason < DROP_COUNT ? drop_texts[reason].text : NULL;
}
