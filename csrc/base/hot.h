/*
 * hot.h: marks of functions that every packet meets, and of those that few do. Used by whatever `bench core`
 * has measured to be faster for it.
 */
#ifndef HOT_H
#define HOT_H

/* Inlined into each of its callers, so that what is constant there costs nothing. */
#define HOT static inline __attribute__((always_inline))
/* Kept out of its callers, so that they keep their registers. */
#define RARE static __attribute__((noinline))

#endif
