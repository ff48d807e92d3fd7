"""The kernel of Conductor: what workflows, activities and the API all need."""
