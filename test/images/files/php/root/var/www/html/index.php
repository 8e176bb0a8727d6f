<?php
// Told apart from a static file by what only PHP can answer.
header('Content-Type: text/plain');
printf("php %s on %s, asked by %s for %s\n", PHP_VERSION, gethostname(),
	$_SERVER['REMOTE_ADDR'] ?? '-', $_SERVER['REQUEST_URI'] ?? '-');
