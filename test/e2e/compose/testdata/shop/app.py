# A shop's front: counts visits in redis, orders in MariaDB, and says who answers.
import os
import socket

import pymysql
from flask import Flask, request
from redis import Redis

app = Flask(__name__)
redis = Redis(host=os.environ['REDIS_HOST'])


def query(sql):
    db = pymysql.connect(host=os.environ['DB_HOST'], user='root', password='123456', database='shop')
    try:
        with db.cursor() as c:
            c.execute(sql)
            rows = c.fetchall()
        db.commit()
        return rows
    finally:
        db.close()


@app.route('/healthz')
def healthz():
    redis.ping()
    return 'ok\n'


@app.route('/')
def home():
    redis.incr('hits')
    query('create table if not exists orders (id int auto_increment primary key, what text)')
    query("insert into orders (what) values ('a linkspan')")
    return 'hits=%s orders=%s by=%s greeting=%s for=%s\n' % (
        redis.get('hits').decode(), query('select count(*) from orders')[0][0], socket.gethostname(),
        os.environ.get('GREETING', ''), request.headers.get('X-Real-IP', ''))


app.run(host='0.0.0.0', port=5000)
