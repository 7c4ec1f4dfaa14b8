/* drop.h: every reason for which a packet dies, as drop.def lists them. Every floor returns them. */
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
