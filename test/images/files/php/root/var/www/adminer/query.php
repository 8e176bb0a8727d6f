<?php
// What a script needs of Adminer and no session: log in, run one query, print
// the rows. Fields as Adminer's links have them: server, username, password, db, sql.
header('Content-Type: text/plain');
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
$field = fn(string $name, string $default) => $_REQUEST[$name] ?? $default;
$server = $field('server', '127.0.0.1');
$port = 3306;
if (preg_match('/^(\[[^\]]+\]|[^:]+):(\d+)$/', $server, $m)) {
	[, $server, $port] = $m;
}
try {
	$link = mysqli_init();
	$link->options(MYSQLI_OPT_CONNECT_TIMEOUT, 5);
	$link->real_connect(trim($server, '[]'), $field('username', 'root'), $field('password', ''), $field('db', ''), (int)$port);
	$rows = $link->query($field('sql', 'SELECT VERSION()'));
	if ($rows === true) {
		echo "OK, {$link->affected_rows} rows affected\n";
		exit;
	}
	foreach ($rows as $row) {
		echo implode("\t", array_map(fn($v) => $v ?? 'NULL', $row)), "\n";
	}
} catch (mysqli_sql_exception $e) {
	http_response_code(502);
	echo 'ERROR ', $e->getCode(), ': ', $e->getMessage(), "\n";
}
