/* drop.h: every reason for which a packet dies, as drop.def lists them. Used by every floor. */
#ifndef DROP_H
#define DROP_H

enum drop {
    DROP_NONE = 0,
#define DROP(symbol, name, text) DROP_##symbol,
#include "base/drop.def"
#undef DROP
    DROP_COUNT
};

#endif
