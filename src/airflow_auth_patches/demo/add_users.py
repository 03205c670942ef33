"""
Add users with the roles of the administrator to Airflow's database.

``users.add`` runs this file as a separate program in the Airflow environment, on a server's database.
Arguments: the ids of the new users.
"""

from __future__ import annotations

import os
import sys

from sqlalchemy import MetaData, create_engine, select


def main(ids: list[int]) -> None:
    """
    Copy the first user, with its roles, to new users.

    :param ids: the ids of the new users.
    """
    engine = create_engine(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    meta = MetaData()
    meta.reflect(engine, only=["ab_user", "ab_user_role"])
    users, held = meta.tables["ab_user"], meta.tables["ab_user_role"]
    with engine.begin() as connection:
        first = connection.execute(select(users).order_by(users.c.id).limit(1)).mappings().one()
        theirs = select(held.c.role_id).where(held.c.user_id == first["id"])
        roles = connection.execute(theirs).scalars().all()
        names = [{"id": each, "username": f"user_{each}", "email": f"{each}@example.invalid"} for each in ids]
        links = [
            {"id": user * 100 + number, "user_id": user, "role_id": role}
            for user in ids
            for number, role in enumerate(roles)
        ]
        connection.execute(users.insert(), [{**first, **each} for each in names])
        connection.execute(held.insert(), links)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
