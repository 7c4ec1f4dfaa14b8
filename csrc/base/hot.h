/* hot.h: marks of what every packet meets, and of what few do: read by the compiler. Used where measured (bench core). */
#ifndef HOT_H
#define HOT_H

/* Inlined into each of its callers, so that what is constant there costs nothing. */
#define HOT static inline __attribute__((always_inline))
/* Kept out of its callers, so that they keep their registers. */
#define RARE static __attribute__((noinline))

#endif
