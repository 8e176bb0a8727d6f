<?php
// Debian's Adminer, with its own configuration file.
include '/etc/adminer/conf.php';
