"""The first tables."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Makes the table of clips."""

    initial = True
    operations = [  # noqa: RUF012
        migrations.CreateModel(
            "Clip",
            [
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("text", models.TextField()),
                ("audio", models.FileField(blank=True, upload_to="clips/")),
            ],
        )
    ]
