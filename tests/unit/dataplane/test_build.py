from dataplane.binding._build import declarations


def test_declarations_drop_preprocessor_lines_only() -> None:
    header = "#ifndef A\nint f(void);  /* #1 */\n#include <x.h>\n#endif\n"
    assert declarations(header) == "int f(void);  /* #1 */\n"
