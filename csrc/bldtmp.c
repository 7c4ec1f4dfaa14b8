/* Placeholders for what has not landed yet; each is replaced by a real function of its name. */
void dp_table_stats(void);
__attribute__((weak)) void dp_table_stats(void) { __builtin_trap(); }
void tables_apply(void);
__attribute__((weak)) void tables_apply(void) { __builtin_trap(); }
void tables_create(void);
__attribute__((weak)) void tables_create(void) { __builtin_trap(); }
void tables_destroy(void);
__attribute__((weak)) void tables_destroy(void) { __builtin_trap(); }
void tables_route(void);
__attribute__((weak)) void tables_route(void) { __builtin_trap(); }
void tables_underlay(void);
__attribute__((weak)) void tables_underlay(void) { __builtin_trap(); }
