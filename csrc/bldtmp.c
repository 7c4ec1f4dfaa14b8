#include "dp_api.h"
__attribute__((weak)) int dp_create(const struct dp_config *config, struct dp **out) { return 0; }
__attribute__((weak)) void dp_destroy(struct dp *dp) {  }
__attribute__((weak)) int dp_last_errno(const struct dp *dp) { return 0; }
__attribute__((weak)) int dp_port_attach(struct dp *dp, uint32_t port, const struct dp_port_config *config) { return 0; }
__attribute__((weak)) int dp_port_detach(struct dp *dp, uint32_t port) { return 0; }
__attribute__((weak)) int dp_start(struct dp *dp) { return 0; }
__attribute__((weak)) int dp_stop(struct dp *dp) { return 0; }
__attribute__((weak)) int dp_poll(struct dp *dp, uint64_t now) { return 0; }
__attribute__((weak)) int dp_inject(struct dp *dp, uint32_t port, const struct dp_frame *frame, const uint8_t *bytes) { return 0; }
__attribute__((weak)) int dp_collect(struct dp *dp, uint32_t port, struct dp_frame *frame, uint8_t *bytes, uint32_t capacity) { return 0; }
__attribute__((weak)) int dp_replay_source(struct dp *dp, uint32_t port, int fd) { return 0; }
__attribute__((weak)) int64_t dp_replay(struct dp *dp, uint32_t batch, uint64_t linger) { return 0; }
__attribute__((weak)) const char * dp_replay_error(const struct dp *dp) { return 0; }
__attribute__((weak)) int dp_neigh_set(struct dp *dp, uint32_t family, const uint8_t *address, const uint8_t *mac) { return 0; }
__attribute__((weak)) int dp_announce(struct dp *dp) { return 0; }
__attribute__((weak)) int dp_neigh_read(const struct dp *dp, struct dp_neigh *out, uint32_t capacity) { return 0; }
__attribute__((weak)) int dp_neigh_probe(struct dp *dp, uint32_t family, const uint8_t *address) { return 0; }
__attribute__((weak)) int dp_apply(struct dp *dp, const uint8_t *change_set, size_t len, struct dp_change_error *error) { return 0; }
__attribute__((weak)) uint64_t dp_generation(const struct dp *dp) { return 0; }
__attribute__((weak)) int dp_table_stats(const struct dp *dp, struct dp_table_stats *out) { return 0; }
__attribute__((weak)) int dp_counters_read(const struct dp *dp, uint32_t port, struct dp_counters *out, uint64_t *drops) { return 0; }
__attribute__((weak)) int dp_vsid_counters_read(const struct dp *dp, struct dp_vsid_counters *out, uint32_t capacity) { return 0; }
__attribute__((weak)) int dp_bench(struct dp *dp, const struct dp_bench_config *config, const uint8_t *frames, const uint32_t *order,              struct dp_bench_round *rounds, uint64_t *digest, uint64_t *dropped) { return 0; }
static const char *const names[][2] = {
    { "none", "" },
#define DROP(symbol, name, text) { name, text },
#include "drop.def"
#undef DROP
};
__attribute__((weak)) uint32_t dp_drop_count(void) { return sizeof(names) / sizeof(names[0]); }
__attribute__((weak)) const char *dp_drop_name(uint32_t reason) { return names[reason][0]; }
__attribute__((weak)) const char *dp_drop_text(uint32_t reason) { return names[reason][1]; }
__attribute__((weak)) const char *dp_error_name(int code) { return code ? "error" : "ok"; }
