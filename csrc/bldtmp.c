/* Placeholders for what has not landed yet; each is replaced by a real function of its name. */
void neigh_arp(void);
__attribute__((weak)) void neigh_arp(void) { __builtin_trap(); }
void neigh_create(void);
__attribute__((weak)) void neigh_create(void) { __builtin_trap(); }
void neigh_destroy(void);
__attribute__((weak)) void neigh_destroy(void) { __builtin_trap(); }
void neigh_drop_held(void);
__attribute__((weak)) void neigh_drop_held(void) { __builtin_trap(); }
void neigh_echo(void);
__attribute__((weak)) void neigh_echo(void) { __builtin_trap(); }
void neigh_hold(void);
__attribute__((weak)) void neigh_hold(void) { __builtin_trap(); }
void neigh_nd(void);
__attribute__((weak)) void neigh_nd(void) { __builtin_trap(); }
void neigh_next_timer(void);
__attribute__((weak)) void neigh_next_timer(void) { __builtin_trap(); }
void neigh_timers(void);
__attribute__((weak)) void neigh_timers(void) { __builtin_trap(); }
void pcap_close(void);
__attribute__((weak)) void pcap_close(void) { __builtin_trap(); }
void pcap_dump(void);
__attribute__((weak)) void pcap_dump(void) { __builtin_trap(); }
void pcap_dump_close(void);
__attribute__((weak)) void pcap_dump_close(void) { __builtin_trap(); }
void pcap_dump_file(void);
__attribute__((weak)) void pcap_dump_file(void) { __builtin_trap(); }
void pcap_dump_flush(void);
__attribute__((weak)) void pcap_dump_flush(void) { __builtin_trap(); }
void pcap_dump_fopen(void);
__attribute__((weak)) void pcap_dump_fopen(void) { __builtin_trap(); }
void pcap_open_dead_with_tstamp_precision(void);
__attribute__((weak)) void pcap_open_dead_with_tstamp_precision(void) { __builtin_trap(); }
void proxy_arp(void);
__attribute__((weak)) void proxy_arp(void) { __builtin_trap(); }
void proxy_is_nd(void);
__attribute__((weak)) void proxy_is_nd(void) { __builtin_trap(); }
void proxy_nd(void);
__attribute__((weak)) void proxy_nd(void) { __builtin_trap(); }
void proxy_nd_valid(void);
__attribute__((weak)) void proxy_nd_valid(void) { __builtin_trap(); }
void proxy_router(void);
__attribute__((weak)) void proxy_router(void) { __builtin_trap(); }
void proxy_tunnel_arp(void);
__attribute__((weak)) void proxy_tunnel_arp(void) { __builtin_trap(); }
void proxy_tunnel_nd(void);
__attribute__((weak)) void proxy_tunnel_nd(void) { __builtin_trap(); }
void qsbr_offline(void);
__attribute__((weak)) void qsbr_offline(void) { __builtin_trap(); }
void qsbr_online(void);
__attribute__((weak)) void qsbr_online(void) { __builtin_trap(); }
void qsbr_quiescent(void);
__attribute__((weak)) void qsbr_quiescent(void) { __builtin_trap(); }
void qsbr_wait(void);
__attribute__((weak)) void qsbr_wait(void) { __builtin_trap(); }
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
void dp_announce(void);
__attribute__((weak)) void dp_announce(void) { __builtin_trap(); }
void dp_neigh_probe(void);
__attribute__((weak)) void dp_neigh_probe(void) { __builtin_trap(); }
void dp_neigh_read(void);
__attribute__((weak)) void dp_neigh_read(void) { __builtin_trap(); }
void dp_neigh_set(void);
__attribute__((weak)) void dp_neigh_set(void) { __builtin_trap(); }
void dp_replay(void);
__attribute__((weak)) void dp_replay(void) { __builtin_trap(); }
void dp_replay_source(void);
__attribute__((weak)) void dp_replay_source(void) { __builtin_trap(); }
void dp_table_stats(void);
__attribute__((weak)) void dp_table_stats(void) { __builtin_trap(); }
